"""Softmax with temperature and token sampling.

Exact: the sets are what their definitions say, ties are broken by the lowest index. One random
number a row comes from Philox4x32-10 with key ``seed`` and counter ``offset`` of the row, so the
same seed and offset always give the same token.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, Union

from ._arrays import Array, arrays_of, export, per_row, stream_of
from ._library import library

_softmax = library.softmax
_argmax = library.argmax
_sample = library.sample
_top_k_sample = library.top_k_sample
_top_p_sample = library.top_p_sample
_min_p_sample = library.min_p_sample
_top_k_top_p_sample = library.top_k_top_p_sample

Ids = Union[Array, Tuple[Array, Array]]


def softmax(logits: Array, temperature: Any = 1.0, *, stream: Optional[int] = None) -> Array:
    """``softmax(logits / temperature)`` over the last dimension, f32 ``[n, vocab]``.

    logits: ``[n, vocab]`` f32/f16/bf16. temperature: a float or f32 ``[n]``; 0 puts all mass on
    the largest logit. Raises ValueError for a negative or NaN temperature.
    """
    arrays = arrays_of(logits)
    probs = arrays.empty(logits.shape, "f32", logits)
    stream = stream_of(logits, stream)
    _softmax(export(logits), export(probs), *per_row(temperature, "f32", 1.0), stream)
    return arrays.finish(probs, stream)


def argmax(logits: Array, *, stream: Optional[int] = None) -> Array:
    """Index of the largest element of each row, the lowest of equals: i32 ``[n]``.

    logits: ``[n, vocab]`` f32/f16/bf16. A row with a NaN gives -1.
    """
    arrays = arrays_of(logits)
    ids = arrays.empty(logits.shape[:1], "i32", logits)
    stream = stream_of(logits, stream)
    _argmax(export(logits), export(ids), stream)
    return arrays.finish(ids, stream)


def _draw(
    function: Callable[..., None],
    probs: Array,
    filters: tuple,
    seed: Any,
    offset: Any,
    indices: Optional[Array],
    return_valid: bool,
    stream: Optional[int],
) -> Ids:
    arrays = arrays_of(probs)
    num_rows = (probs if indices is None else indices).shape[0]
    ids = arrays.empty((num_rows,), "i32", probs)
    valid = arrays.empty((num_rows,), "boolean", probs) if return_valid else None
    stream = stream_of(probs, stream)
    function(
        export(probs),
        export(ids),
        *filters,
        *per_row(seed, "i64", 0),
        *per_row(offset, "i64", 0),
        export(indices),
        export(valid),
        stream,
    )
    ids = arrays.finish(ids, stream)
    return (ids, arrays.finish(valid, stream)) if return_valid else ids


def sample(
    probs: Array,
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """A token a row from the whole distribution: i32 ``[n]``.

    probs: f32 ``[rows, vocab]``, need not sum to one. seed, offset: ints or i64 ``[n]``. indices:
    i32 ``[n]``, output row i samples from row ``indices[i]``; all values given per row belong to
    the output row. A row with a NaN, a negative or no positive probability gives -1; return_valid
    adds a bool ``[n]`` that is False for it. Raises ValueError for shapes, TypeError for dtypes.
    """
    return _draw(_sample, probs, (), seed, offset, indices, return_valid, stream)


def top_k_sample(
    probs: Array,
    top_k: Any,
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """From the ``top_k`` (int or i32 ``[n]``) most probable tokens; <= 0 or >= vocab: from all.

    The other arguments are those of :func:`sample`.
    """
    filters = per_row(top_k, "i32", 0)
    return _draw(_top_k_sample, probs, filters, seed, offset, indices, return_valid, stream)


def top_p_sample(
    probs: Array,
    top_p: Any,
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """From the smallest set of most probable tokens with mass >= ``top_p`` (float or f32 ``[n]``).

    The other arguments are those of :func:`sample`.
    """
    filters = per_row(top_p, "f32", 1.0)
    return _draw(_top_p_sample, probs, filters, seed, offset, indices, return_valid, stream)


def min_p_sample(
    probs: Array,
    min_p: Any,
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """From the tokens with probability >= ``min_p`` (float or f32 ``[n]``) times the largest one.

    The other arguments are those of :func:`sample`.
    """
    filters = per_row(min_p, "f32", 0.0)
    return _draw(_min_p_sample, probs, filters, seed, offset, indices, return_valid, stream)


def top_k_top_p_sample(
    probs: Array,
    top_k: Any,
    top_p: Any,
    order: str = "top_k_first",
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """Top-k and top-p together: "top_k_first" (top-p within the renormalised top-k set) or
    "joint" (both against the whole distribution).

    The other arguments are those of :func:`top_k_sample` and :func:`top_p_sample`.
    """
    if order not in ("top_k_first", "joint"):
        expected = "'top_k_first' or 'joint'"
        raise ValueError(f"top_k_top_p_sample: order: got {order!r}, expected {expected}")
    filters = (*per_row(top_k, "i32", 0), *per_row(top_p, "f32", 1.0), order == "joint")
    return _draw(_top_k_top_p_sample, probs, filters, seed, offset, indices, return_valid, stream)
