"""Softmax with temperature and token sampling.

Exact: the sets are what their definitions say, ties are broken by the lowest index. One random
number a row comes from Philox4x32-10 with key ``seed`` and counter ``offset`` of the row, so the
same seed and offset always give the same token.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, Union

from ._arrays import Array, arrays_of, export, export_output, per_row, stream_of
from ._library import library

_softmax = library.softmax
_argmax = library.argmax
_token_log_probs = library.token_log_probs
_sample = library.sample
_top_k_sample = library.top_k_sample
_top_p_sample = library.top_p_sample
_min_p_sample = library.min_p_sample
_top_k_top_p_sample = library.top_k_top_p_sample
_filtered_sample = library.filtered_sample
_sample_from_logits = library.sample_from_logits
_renorm_probs = library.renorm_probs
_top_k_mask_logits = library.top_k_mask_logits

Ids = Union[Array, Tuple[Array, ...]]


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


def token_log_probs(
    logits: Array, ids: Array, temperature: Any = 1.0, *, stream: Optional[int] = None
) -> Array:
    """``log(softmax(logits / temperature))`` at the tokens ids, f32 of the shape of ids.

    logits: ``[n, vocab]`` f32/f16/bf16. ids: i32 ``[n]`` or ``[n, tokens]``; NaN for an id that is
    none, and for a row that is no distribution. temperature: a float or f32 ``[n]``; 0 gives 0 for
    the largest logit and -inf for others. Raises ValueError for shapes and a negative or NaN
    temperature, TypeError for dtypes.
    """
    arrays = arrays_of(logits)
    out = arrays.empty(ids.shape, "f32", logits)
    stream = stream_of(logits, stream)
    temperatures = per_row(temperature, "f32", 1.0)
    _token_log_probs(export(logits), export(ids), export(out), *temperatures, stream)
    return arrays.finish(out, stream)


def _is_joint(order: str, op: str) -> bool:
    if order not in ("top_k_first", "joint"):
        expected = "'top_k_first' or 'joint'"
        raise ValueError(f"{op}: order: got {order!r}, expected {expected}")
    return order == "joint"


def _filters(top_k: Any, top_p: Any, min_p: Any, order: str, op: str) -> tuple:
    joint = _is_joint(order, op)
    values = (*per_row(top_k, "i32", 0), *per_row(top_p, "f32", 1.0), *per_row(min_p, "f32", 0.0))
    return (*values, joint)


def _draw(
    function: Callable[..., None],
    probs: Array,
    filters: tuple,
    seed: Any,
    offset: Any,
    indices: Optional[Array],
    return_valid: bool,
    stream: Optional[int],
    return_log_probs: Optional[bool] = None,
) -> Ids:
    """return_log_probs: None for functions that do not know of them."""
    arrays = arrays_of(probs)
    num_rows = (probs if indices is None else indices).shape[0]
    ids = arrays.empty((num_rows,), "i32", probs)
    valid = arrays.empty((num_rows,), "boolean", probs) if return_valid else None
    log_probs = arrays.empty((num_rows,), "f32", probs) if return_log_probs else None
    stream = stream_of(probs, stream)
    function(
        export(probs),
        export(ids),
        *filters,
        *per_row(seed, "i64", 0),
        *per_row(offset, "i64", 0),
        export(indices),
        export(valid),
        *(() if return_log_probs is None else (export(log_probs),)),
        stream,
    )
    outputs = [x for x in (ids, valid, log_probs) if x is not None]
    finished = tuple(arrays.finish(x, stream) for x in outputs)
    return finished if len(finished) > 1 else finished[0]


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
    joint = _is_joint(order, "top_k_top_p_sample")
    filters = (*per_row(top_k, "i32", 0), *per_row(top_p, "f32", 1.0), joint)
    return _draw(_top_k_top_p_sample, probs, filters, seed, offset, indices, return_valid, stream)


def filtered_sample(
    probs: Array,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    order: str = "top_k_first",
    *,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    return_log_probs: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """From the tokens that top-k, top-p and min-p keep together; None keeps all.

    return_log_probs adds f32 ``[n]``: the logarithm of the drawn token's probability among those
    that are kept, NaN where the id is -1. The other arguments are those of :func:`sample` and
    :func:`top_k_top_p_sample`.
    """
    filters = _filters(top_k, top_p, min_p, order, "filtered_sample")
    options = (seed, offset, indices, return_valid, stream, return_log_probs)
    return _draw(_filtered_sample, probs, filters, *options)


def sample_from_logits(
    logits: Array,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    order: str = "top_k_first",
    *,
    temperature: Any = 1.0,
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    return_log_probs: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """:func:`filtered_sample` of ``softmax(logits / temperature)``, which is not written anywhere.

    logits: ``[rows, vocab]`` f32/f16/bf16. temperature: a float or f32 ``[n]``; 0 draws the largest
    logit. A row with a NaN, with +inf (but at temperature 0) or of -inf only gives -1.
    """
    filters = _filters(top_k, top_p, min_p, order, "sample_from_logits")
    filters = (*filters, *per_row(temperature, "f32", 1.0))
    options = (seed, offset, indices, return_valid, stream, return_log_probs)
    return _draw(_sample_from_logits, logits, filters, *options)


def _map_rows(
    function: Callable[..., None],
    op: str,
    rows: Array,
    arguments: tuple,
    out: Optional[Array],
    stream: Optional[int],
) -> Array:
    arrays = arrays_of(rows)
    result = arrays.empty(rows.shape, arrays.dtype(rows), rows) if out is None else out
    target = export_output(result, op, "out") if out is not None else export(result)
    stream = stream_of(rows, stream)
    function(export(rows), target, *arguments, stream)
    return result if out is not None else arrays.finish(result, stream)


def renorm_probs(
    probs: Array,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    order: str = "top_k_first",
    *,
    out: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Array:
    """probs where the filter keeps them, divided by their sum; 0 elsewhere. ``[n, vocab]``.

    probs: f32/f16/bf16, out: the same dtype, or probs itself. A row that is no distribution gives
    NaN, a row of zeros zeros.
    """
    filters = _filters(top_k, top_p, min_p, order, "renorm_probs")
    return _map_rows(_renorm_probs, "renorm_probs", probs, filters, out, stream)


def top_k_mask_logits(
    logits: Array, top_k: Any, *, out: Optional[Array] = None, stream: Optional[int] = None
) -> Array:
    """The top_k (int or i32 ``[n]``) largest logits of each row, -inf elsewhere: ``[n, vocab]``.

    logits: f32/f16/bf16, out: the same dtype, or logits itself. top_k <= 0 or >= vocab keeps all.
    """
    arguments = per_row(top_k, "i32", 0)
    return _map_rows(_top_k_mask_logits, "top_k_mask_logits", logits, arguments, out, stream)
