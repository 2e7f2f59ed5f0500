"""Writing new keys and values into a paged KV-cache, and the index arrays for it."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_append_paged_kv = library.append_paged_kv
_append_paged_mla = library.append_paged_mla
_get_batch_indices_positions = library.get_batch_indices_positions
_get_seq_lens = library.get_seq_lens


def is_hnd(kv_layout: str, op: str) -> bool:
    """True for "HND", False for "NHD", ValueError otherwise."""
    if kv_layout not in ("NHD", "HND"):
        raise ValueError(f"{op}: kv_layout: got {kv_layout!r}, expected 'NHD' or 'HND'")
    return kv_layout == "HND"


def export_rows(
    op: str, slot_mapping: Optional[Array], table: Sequence[Optional[Array]]
) -> Tuple[Any, ...]:
    """(slot_mapping, batch_indices, positions, kv_indptr, kv_indices, kv_last_page_len) for the
    library; ValueError unless the first one or all the others are given."""
    given = [array is not None for array in table]
    if slot_mapping is not None and any(given):
        raise ValueError(f"{op}: slot_mapping: got a page table too, expected one of them")
    if slot_mapping is None and not all(given):
        raise ValueError(f"{op}: slot_mapping: got None and no whole page table, expected either")
    return (export(slot_mapping), *(export(array) for array in table))


def export_scale(scale: Any) -> Tuple[Any, float]:
    """A number or a tensor as (tensor or None, number)."""
    if hasattr(scale, "shape"):
        return export(scale), 1.0
    return None, float(scale)


def append_paged_kv(
    key: Array,
    value: Array,
    batch_indices: Optional[Array],
    positions: Optional[Array],
    k_cache: Array,
    v_cache: Array,
    kv_indptr: Optional[Array] = None,
    kv_indices: Optional[Array] = None,
    kv_last_page_len: Optional[Array] = None,
    kv_layout: str = "NHD",
    *,
    slot_mapping: Optional[Array] = None,
    k_scale: Any = 1.0,
    v_scale: Any = 1.0,
    stream: Optional[int] = None,
) -> None:
    """Writes row i to token ``positions[i]`` of request ``batch_indices[i]`` (< 0: skipped).

    key, value: ``[nnz, num_kv_heads, head_dim]``. k_cache, v_cache: ``[pages, page_size,
    num_kv_heads, head_dim]`` (NHD) or ``[pages, num_kv_heads, page_size, head_dim]`` (HND), any
    strides, written in place; of the dtype of key, or fp8: then f32/f16/bf16 rows become ``value /
    scale``, saturating. k_scale, v_scale: numbers, or f32 ``[1]`` or ``[num_kv_heads]``.
    batch_indices, positions: i32 ``[nnz]``; the page table (kv_indptr i32 ``[batch + 1]``,
    kv_indices, kv_last_page_len ``[batch]``) is on the same device. Instead of these five (None),
    slot_mapping: i32 or i64 ``[n]``, n at most nnz, ``page * page_size + token`` (< 0: skipped).
    On the CPU a row that points outside raises ValueError and nothing is written; on CUDA it is
    skipped, or found first and raised with QUIRE_CHECKED=1 in the environment, which waits.
    TypeError for other dtypes and for arrays that cannot be written (JAX).
    """
    op = "append_paged_kv"
    table = (batch_indices, positions, kv_indptr, kv_indices, kv_last_page_len)
    slots, ids, at, *pages = export_rows(op, slot_mapping, table)
    _append_paged_kv(
        export(key),
        export(value),
        ids,
        at,
        export_output(k_cache, op, "k_cache"),
        export_output(v_cache, op, "v_cache"),
        is_hnd(kv_layout, op),
        *pages,
        slots,
        *export_scale(k_scale),
        *export_scale(v_scale),
        stream_of(key, stream),
    )


def append_paged_mla(
    ckv: Array,
    kpe: Array,
    batch_indices: Optional[Array],
    positions: Optional[Array],
    ckv_cache: Array,
    kpe_cache: Array,
    kv_indptr: Optional[Array] = None,
    kv_indices: Optional[Array] = None,
    kv_last_page_len: Optional[Array] = None,
    *,
    slot_mapping: Optional[Array] = None,
    ckv_scale: Any = 1.0,
    kpe_scale: Any = 1.0,
    stream: Optional[int] = None,
) -> None:
    """The same for MLA's latent cache: ckv ``[nnz, ckv_dim]``, kpe ``[nnz, kpe_dim]``, ckv_cache
    ``[pages, page_size, ckv_dim]``, kpe_cache ``[pages, page_size, kpe_dim]``."""
    op = "append_paged_mla"
    table = (batch_indices, positions, kv_indptr, kv_indices, kv_last_page_len)
    slots, ids, at, *pages = export_rows(op, slot_mapping, table)
    _append_paged_mla(
        export(ckv),
        export(kpe),
        ids,
        at,
        export_output(ckv_cache, op, "ckv_cache"),
        export_output(kpe_cache, op, "kpe_cache"),
        *pages,
        slots,
        *export_scale(ckv_scale),
        *export_scale(kpe_scale),
        stream_of(ckv, stream),
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
