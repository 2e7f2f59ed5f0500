"""Row gather: token embedding, and picking the rows whose logits are wanted."""

from __future__ import annotations

from typing import Optional

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_gather_rows = library.gather_rows


def gather_rows(
    table: Array, indices: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``out[i] = table[indices[i]]``.

    table: ``[rows, dim]`` of a dtype of 1, 2 or 4 bytes; indices: i32 ``[n]``; out: ``[n, dim]``.
    On the CPU an index out of range raises ValueError; on CUDA it gives a row of zeros.
    """
    arrays = arrays_of(table)
    if out is None:
        if len(table.shape) != 2 or len(indices.shape) != 1:
            shapes = f"shapes {tuple(table.shape)} and {tuple(indices.shape)}"
            raise ValueError(f"gather_rows: table, indices: got {shapes}, expected [r, d] and [n]")
        shape = (indices.shape[0], table.shape[1])
        result = arrays.empty(shape, arrays.dtype(table), table)
    else:
        result = out
    target = export_output(result, "gather_rows", "out")
    stream = stream_of(table, stream)
    _gather_rows(export(table), export(indices), target, stream)
    return result if out is not None else arrays.finish(result, stream)
