"""Top-k selection: exact, deterministic, with a chosen tie-break."""

from __future__ import annotations

from typing import Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library
from ._outputs import Outputs

_top_k = library.top_k
_ragged = library.top_k_ragged_transform
_paged = library.top_k_page_table_transform


def _is_highest(tie_break: str, op: str) -> bool:
    if tie_break not in ("lowest_index", "highest_index"):
        expected = "'lowest_index' or 'highest_index'"
        raise ValueError(f"{op}: tie_break: got {tie_break!r}, expected {expected}")
    return tie_break == "highest_index"


def top_k(
    input: Array,
    k: int,
    *,
    row_starts: Optional[Array] = None,
    lengths: Optional[Array] = None,
    next_n: int = 1,
    compress_ratio: int = 1,
    tie_break: str = "lowest_index",
    values: Optional[Array] = None,
    indices: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Tuple[Array, Array]:
    """(values ``[n, k]``, indices i32 ``[n, k]``) of the k largest of each row, descending.

    input: ``[n, len]`` f32/f16/bf16; k from 1 to 2048. row_starts, lengths: i32 ``[n]``, only
    elements ``[start, start + length)`` count, and indices count from start. Equal elements are
    taken in the order of tie_break. Where a row has fewer than k the rest is -inf and -1. NaN
    counts as the largest number. next_n, compress_ratio: lengths is i32 ``[n / next_n]``, and row j
    of the next_n of a request counts ``(length - next_n + j + 1) // compress_ratio`` elements.
    values, indices: the outputs, or None for new ones. Raises NotImplementedError for a k above
    2048.
    """
    outputs = Outputs("top_k", input, stream)
    shape = (input.shape[0], k)
    targets = (
        outputs.add("values", values, shape, outputs.arrays.dtype(input)),
        outputs.add("indices", indices, shape, "i32"),
    )
    windows = (export(row_starts), export(lengths), _is_highest(tie_break, "top_k"))
    _top_k(export(input), *targets, *windows, next_n, compress_ratio, outputs.stream)
    largest, places = outputs.results()
    return largest, places


def _output(given: Optional[Array], input: Array, k: int, op: str, name: str) -> tuple:
    """(array, what the library takes)"""
    if given is not None:
        return given, export_output(given, op, name)
    array = arrays_of(input).empty((input.shape[0], k), "i32", input)
    return array, export(array)


def top_k_ragged_transform(
    input: Array,
    offsets: Array,
    lengths: Optional[Array],
    k: int,
    *,
    row_starts: Optional[Array] = None,
    tie_break: str = "lowest_index",
    out: Optional[Array] = None,
    raw_indices: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Array:
    """``offsets[i] + index`` of the k largest of row i, ascending, then -1: i32 ``[n, k]``.

    raw_indices: i32 ``[n, k]``, gets the indices themselves. The rest as in :func:`top_k`.
    """
    op = "top_k_ragged_transform"
    result, target = _output(out, input, k, op, "out")
    stream = stream_of(input, stream)
    windows = (export(row_starts), export(lengths), _is_highest(tie_break, op))
    raw = export_output(raw_indices, op, "raw_indices")
    _ragged(export(input), export(offsets), target, *windows, raw, stream)
    return result if out is not None else arrays_of(input).finish(result, stream)


def top_k_page_table_transform(
    input: Array,
    page_table: Array,
    lengths: Optional[Array],
    k: int,
    *,
    row_to_batch: Optional[Array] = None,
    row_starts: Optional[Array] = None,
    page_table_row_starts: Optional[Array] = None,
    page_size: int = 1,
    tie_break: str = "lowest_index",
    out: Optional[Array] = None,
    raw_indices: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Array:
    """The k largest elements of row i through a page table, ascending by index, then -1.

    ``page * page_size + index % page_size`` with page = ``page_table[batch, start + index //
    page_size]``, batch = row_to_batch[i] or i, start = page_table_row_starts[i], or that of
    row_starts, or 0.
    page_table: i32 ``[batch, columns]``; page_size: a power of two. The rest as in :func:`top_k`.
    """
    op = "top_k_page_table_transform"
    result, target = _output(out, input, k, op, "out")
    stream = stream_of(input, stream)
    table = (export(page_table), export(row_to_batch), export(page_table_row_starts), page_size)
    windows = (export(row_starts), export(lengths), _is_highest(tie_break, op))
    raw = export_output(raw_indices, op, "raw_indices")
    _paged(export(input), *table, target, *windows, raw, stream)
    return result if out is not None else arrays_of(input).finish(result, stream)
