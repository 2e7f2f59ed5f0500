"""FlashInfer's ``flashinfer.sampling``.

Same distributions as FlashInfer, but other random numbers: a seed does not give the tokens that it
gives there. Unlike FlashInfer, ties are broken by the lowest index and sets are exact, a seed or
offset tensor with one element a row is used row by row, parameters given per row belong to the
output row, and a row that cannot be sampled gives -1. ``deterministic`` has no effect: everything
is. Raises ValueError, TypeError.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, Union

from .. import sampling as _sampling
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
) -> Samples:
    arrays = arrays_of(probs)
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
    )
    ids, valid = result if return_valid else (result, None)
    if indices is not None:
        ids = arrays.cast(ids, arrays_of(indices).dtype(indices))
    return (ids, valid) if return_valid else ids


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
    """sampling_from_probs of softmax(logits)."""
    options = (indices, generator, check_nan, seed, offset)
    return _draw(_sampling.sample, _sampling.softmax(logits), (), *options)


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
    """top_k_top_p_sampling_from_probs of softmax(logits)."""
    filters = (top_k, top_p, filter_apply_order)
    options = (indices, generator, check_nan, seed, offset)
    return _draw(_sampling.top_k_top_p_sample, _sampling.softmax(logits), filters, *options)


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
