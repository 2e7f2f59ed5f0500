"""Writing new keys and values into a paged KV-cache, and the index arrays for it."""

from __future__ import annotations

from typing import Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_append_paged_kv = library.append_paged_kv
_get_batch_indices_positions = library.get_batch_indices_positions
_get_seq_lens = library.get_seq_lens


def is_hnd(kv_layout: str, op: str) -> bool:
    """True for "HND", False for "NHD", ValueError otherwise."""
    if kv_layout not in ("NHD", "HND"):
        raise ValueError(f"{op}: kv_layout: got {kv_layout!r}, expected 'NHD' or 'HND'")
    return kv_layout == "HND"


def append_paged_kv(
    key: Array,
    value: Array,
    batch_indices: Array,
    positions: Array,
    k_cache: Array,
    v_cache: Array,
    kv_indptr: Array,
    kv_indices: Array,
    kv_last_page_len: Array,
    kv_layout: str = "NHD",
    *,
    stream: Optional[int] = None,
) -> None:
    """Writes row i to token ``positions[i]`` of request ``batch_indices[i]`` (< 0: skipped).

    key, value: ``[nnz, num_kv_heads, head_dim]``. k_cache, v_cache: ``[pages, page_size,
    num_kv_heads, head_dim]`` (NHD) or ``[pages, num_kv_heads, page_size, head_dim]`` (HND), any
    strides, written in place. batch_indices, positions: i32 ``[nnz]``; the page table (kv_indptr
    i32 ``[batch + 1]``, kv_indices, kv_last_page_len ``[batch]``) is on the same device.
    On the CPU a row that points outside raises ValueError and nothing is written; on CUDA it is
    skipped. TypeError for dtypes that differ and for arrays that cannot be written (JAX).
    """
    op = "append_paged_kv"
    _append_paged_kv(
        export(key),
        export(value),
        export(batch_indices),
        export(positions),
        export_output(k_cache, op, "k_cache"),
        export_output(v_cache, op, "v_cache"),
        is_hnd(kv_layout, op),
        export(kv_indptr),
        export(kv_indices),
        export(kv_last_page_len),
        stream_of(key, stream),
    )


def get_batch_indices_positions(
    append_indptr: Array, seq_lens: Array, nnz: int, *, stream: Optional[int] = None
) -> Tuple[Array, Array]:
    """Expands a ragged append to one (request, position) a token: two i32 ``[nnz]`` arrays.

    append_indptr: i32 ``[batch + 1]``; seq_lens: i32 ``[batch]``, lengths after the append.
    Entries past ``append_indptr[-1]`` get request -1 and position 0.
    """
    arrays = arrays_of(append_indptr)
    batch_indices = arrays.empty((nnz,), "i32", append_indptr)
    positions = arrays.empty((nnz,), "i32", append_indptr)
    stream = stream_of(append_indptr, stream)
    _get_batch_indices_positions(
        export(append_indptr), export(seq_lens), export(batch_indices), export(positions), stream
    )
    return arrays.finish(batch_indices, stream), arrays.finish(positions, stream)


def get_seq_lens(
    kv_indptr: Array, kv_last_page_len: Array, page_size: int, *, stream: Optional[int] = None
) -> Array:
    """Tokens a request: i32 ``[batch]``; 0 for a request without pages.

    kv_indptr: i32 ``[batch + 1]``; kv_last_page_len: i32 ``[batch]``.
    """
    arrays = arrays_of(kv_last_page_len)
    seq_lens = arrays.empty(kv_last_page_len.shape, "i32", kv_last_page_len)
    stream = stream_of(kv_last_page_len, stream)
    _get_seq_lens(export(kv_indptr), export(kv_last_page_len), page_size, export(seq_lens), stream)
    return arrays.finish(seq_lens, stream)
