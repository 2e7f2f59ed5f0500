"""FlashInfer's ``flashinfer.sampling``.

Same distributions as FlashInfer, but other random numbers: a seed does not give the tokens that it
gives there. Unlike FlashInfer, ties are broken by the lowest index and sets are exact, a seed or
offset tensor with one element a row is used row by row, parameters given per row belong to the
output row, and a row that cannot be sampled gives -1. ``deterministic`` has no effect: everything
is. Raises ValueError, TypeError.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple, Union

import numpy as np

from .. import sampling as _sampling
from .. import speculative as _speculative
from .._arrays import Array, arrays_of
from ._random import next_seed_and_offset, seeds_of_rows

Samples = Union[Array, Tuple[Array, Array]]


def get_seed_and_offset(
    increment: int, generator: Optional[Any] = None, device: Optional[Any] = None
) -> Tuple[int, int]:
    """A seed and an offset for one sampling call; advances the generator on the host."""
    import torch

    like = torch.empty(0, device="cpu" if device is None else device)
    return next_seed_and_offset(like, generator, increment)


def softmax(logits: Array, temperature: Any = None, enable_pdl: Optional[bool] = None) -> Array:
    """``softmax(logits / temperature)``, f32 ``[n, vocab]``; temperature: a float or ``[n]``."""
    return _sampling.softmax(logits, 1.0 if temperature is None else temperature)


def _draw(
    function: Callable[..., Any],
    probs: Array,
    filters: tuple,
    indices: Optional[Array],
    generator: Optional[Any],
    check_nan: bool,
    seed: Any,
    offset: Any,
    return_valid: bool = False,
    options: Optional[Dict[str, Any]] = None,
    keeps_dtype: bool = False,
) -> Samples:
    arrays = arrays_of(probs)
    if not keeps_dtype:
        probs = arrays.cast(probs, "f32")
    # NaN is the only value that differs from itself.
    if check_nan and bool((probs != probs).any()):
        raise ValueError("sampling: probs: got NaN, expected none: check_nan is set")
    num_rows = (probs if indices is None else indices).shape[0]
    if seed is None or offset is None:
        seed, offset = next_seed_and_offset(probs, generator, num_rows * probs.shape[1])
    result = function(
        probs,
        *filters,
        seed=seeds_of_rows(seed, "seed", num_rows),
        offset=seeds_of_rows(offset, "offset", num_rows),
        indices=None if indices is None else arrays_of(indices).cast(indices, "i32"),
        return_valid=return_valid,
        **(options or {}),
    )
    ids, valid = result if return_valid else (result, None)
    if indices is not None:
        ids = arrays.cast(ids, arrays_of(indices).dtype(indices))
    return (ids, valid) if return_valid else ids


def draw_from_logits(
    logits: Array,
    filters: Dict[str, Any],
    indices: Optional[Array] = None,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
) -> Samples:
    """filters: arguments of :func:`quire.sample_from_logits`. Not one of FlashInfer's names."""
    options = (indices, generator, check_nan, seed, offset)
    function = _sampling.sample_from_logits
    return _draw(function, logits, (), *options, options=filters, keeps_dtype=True)


def draw_from_probs(
    probs: Array,
    filters: Dict[str, Any],
    indices: Optional[Array] = None,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
) -> Samples:
    """filters: arguments of :func:`quire.filtered_sample`. Not one of FlashInfer's names."""
    options = (indices, generator, check_nan, seed, offset)
    return _draw(_sampling.filtered_sample, probs, (), *options, options=filters)


def sampling_from_probs(
    probs: Array,
    indices: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
    return_valid: bool = False,
) -> Samples:
    """A token a row of probs ``[rows, vocab]``: int32 ``[n]``, or the dtype of indices.

    indices ``[n]``: output row i samples from row ``indices[i]``. seed, offset: ints, or tensors of
    1 or n elements; without them the generator gives them. return_valid: also a bool ``[n]``, False
    for a row with NaN, a negative or no positive probability. check_nan: ValueError for NaN.
    """
    options = (indices, generator, check_nan, seed, offset, return_valid)
    return _draw(_sampling.sample, probs, (), *options)


def sampling_from_logits(
    logits: Array,
    indices: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
) -> Samples:
    """sampling_from_probs of softmax(logits), in one pass; logits f32/f16/bf16."""
    return draw_from_logits(logits, {}, indices, generator, check_nan, seed, offset)


def top_p_sampling_from_probs(
    probs: Array,
    top_p: Any,
    indices: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
    return_valid: bool = False,
) -> Samples:
    """From the smallest set of most probable tokens with mass >= top_p (a float or ``[n]``)."""
    options = (indices, generator, check_nan, seed, offset, return_valid)
    return _draw(_sampling.top_p_sample, probs, (top_p,), *options)


def top_k_sampling_from_probs(
    probs: Array,
    top_k: Any,
    indices: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
    return_valid: bool = False,
) -> Samples:
    """From the top_k (an int or ``[n]``) most probable tokens."""
    options = (indices, generator, check_nan, seed, offset, return_valid)
    return _draw(_sampling.top_k_sample, probs, (top_k,), *options)


def min_p_sampling_from_probs(
    probs: Array,
    min_p: Any,
    indices: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
    return_valid: bool = False,
) -> Samples:
    """From the tokens with probability >= min_p (a float or ``[n]``) times the largest one."""
    options = (indices, generator, check_nan, seed, offset, return_valid)
    return _draw(_sampling.min_p_sample, probs, (min_p,), *options)


def top_k_top_p_sampling_from_logits(
    logits: Array,
    top_k: Any,
    top_p: Any,
    indices: Optional[Array] = None,
    filter_apply_order: str = "top_k_first",
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
) -> Samples:
    """top_k_top_p_sampling_from_probs of softmax(logits), in one pass; logits f32/f16/bf16."""
    filters = {"top_k": top_k, "top_p": top_p, "order": filter_apply_order}
    return draw_from_logits(logits, filters, indices, generator, check_nan, seed, offset)


def top_k_top_p_sampling_from_probs(
    probs: Array,
    top_k: Any,
    top_p: Any,
    indices: Optional[Array] = None,
    filter_apply_order: str = "top_k_first",
    deterministic: bool = True,
    generator: Optional[Any] = None,
    check_nan: bool = False,
    seed: Any = None,
    offset: Any = None,
    return_valid: bool = False,
) -> Samples:
    """top_k and top_p together: "top_k_first" (top-p within the renormalised top-k set) or "joint"
    (both against the whole distribution)."""
    filters = (top_k, top_p, filter_apply_order)
    options = (indices, generator, check_nan, seed, offset, return_valid)
    return _draw(_sampling.top_k_top_p_sample, probs, filters, *options)


def top_p_renorm_probs(probs: Array, top_p: Any, is_deterministic: bool = False) -> Array:
    """probs of the smallest set of most probable tokens with mass >= top_p (a float or ``[n]``),
    divided by their sum, 0 elsewhere: f32 ``[n, vocab]``."""
    return _sampling.renorm_probs(arrays_of(probs).cast(probs, "f32"), top_p=top_p)


def top_k_renorm_probs(probs: Array, top_k: Any) -> Array:
    """probs of the top_k (an int or ``[n]``) most probable tokens, divided by their sum, 0
    elsewhere: ``[n, vocab]`` in the dtype of probs."""
    return _sampling.renorm_probs(probs, top_k=top_k)


def top_k_mask_logits(logits: Array, top_k: Any) -> Array:
    """The top_k (an int or ``[n]``) largest logits, -inf elsewhere: ``[n, vocab]``."""
    return _sampling.top_k_mask_logits(logits, top_k)


top_p_renorm_prob = top_p_renorm_probs
top_k_renorm_prob = top_k_renorm_probs


def chain_speculative_sampling(
    draft_probs: Array,
    draft_token_ids: Array,
    target_probs: Array,
    maybe_output_accepted_token_num: Optional[Array] = None,
    maybe_output_emitted_draft_token_num: Optional[Array] = None,
    deterministic: bool = True,
    generator: Optional[Any] = None,
    seed: Any = None,
    offset: Any = None,
) -> Tuple[Array, Array, Array]:
    """(ids int32 ``[batch, n + 1]``, accepted int32 ``[batch]``, emitted int32 ``[batch]``).

    draft_probs ``[batch, n, vocab]``, draft_token_ids ``[batch, n]``, target_probs ``[batch, n + 1,
    vocab]``. ids: the draft tokens kept, one token more, then -1. The counters that are given are
    added to and returned: tokens that would be accepted each by itself, and those that are kept.
    """
    arrays = arrays_of(target_probs)
    batch, num_drafts = draft_token_ids.shape
    if seed is None or offset is None:
        increment = batch * (num_drafts + 1) * target_probs.shape[2]
        seed, offset = next_seed_and_offset(target_probs, generator, increment)
    zeros = np.zeros(batch, np.int32)
    accepted, emitted = (
        arrays.from_numpy(zeros.copy(), target_probs) if given is None else given
        for given in (maybe_output_accepted_token_num, maybe_output_emitted_draft_token_num)
    )
    ids = _speculative.chain_speculative_sampling(
        arrays.cast(draft_probs, "f32"),
        arrays.cast(draft_token_ids, "i32"),
        arrays.cast(target_probs, "f32"),
        accepted=accepted,
        emitted=emitted,
        seed=seeds_of_rows(seed, "seed", batch),
        offset=seeds_of_rows(offset, "offset", batch),
    )
    return ids, accepted, emitted
