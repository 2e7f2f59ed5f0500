"""Whole pages of a KV-cache: copies, gathers, scatters.

Pools and page arrays: ``[pages, ...]``, rank 2 or more, any dtype and strides, last dimension
contiguous; everything past dimension 0 is one page. Page ids: i32 or i64 ``[n]``; a negative id
skips its entry. Ids outside the pool are a ValueError on the CPU and skipped on CUDA. All raise
ValueError for shapes, TypeError for dtypes and for arrays that cannot be written (JAX).
"""

from __future__ import annotations

from typing import Optional, Sequence, Union

from ._arrays import Array, export, export_output, stream_of
from ._library import library
from ._outputs import Outputs

_copy_pages = library.copy_pages
_copy_pages_of_all = library.copy_pages_of_all
_gather_pages = library.gather_pages
_scatter_pages = library.scatter_pages


def copy_pages(
    pool: Union[Array, Sequence[Array]], src: Array, dst: Array, *, stream: Optional[int] = None
) -> None:
    """``pool[dst[i]] = pool[src[i]]``. Pages that are written are read by no entry and written by
    one only. A list or tuple of pools of one shape, dtype, strides and device: the same copies in
    each of them, in one launch for every 128."""
    op = "copy_pages"
    if isinstance(pool, (list, tuple)):
        targets = [export_output(one, op, f"pools[{i}]") for i, one in enumerate(pool)]
        handle = stream_of(pool[0] if pool else src, stream)
        _copy_pages_of_all(targets, export(src), export(dst), handle)
        return
    target = export_output(pool, op, "pool")
    _copy_pages(target, export(src), export(dst), stream_of(pool, stream))


def gather_pages(
    pool: Array, pages: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``out[i] = pool[pages[i]]``; a new out has undefined pages where the id is negative."""
    outputs = Outputs("gather_pages", pool, stream)
    shape = (*pages.shape, *pool.shape[1:])
    target = outputs.add("out", out, shape, outputs.arrays.dtype(pool))
    _gather_pages(export(pool), export(pages), target, outputs.stream)
    return outputs.results()[0]


def scatter_pages(input: Array, pages: Array, pool: Array, *, stream: Optional[int] = None) -> None:
    """``pool[pages[i]] = input[i]``."""
    target = export_output(pool, "scatter_pages", "pool")
    _scatter_pages(export(input), export(pages), target, stream_of(pool, stream))
