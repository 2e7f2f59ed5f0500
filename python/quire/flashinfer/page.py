"""FlashInfer's ``flashinfer.page``."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from .. import append as _append
from .._arrays import Array, arrays_of, export, stream_of
from .._library import library
from . import _options
from ._kv_cache import split_paged_kv_cache


def append_paged_kv_cache(
    append_key: Array,
    append_value: Array,
    batch_indices: Array,
    positions: Array,
    paged_kv_cache: Any,
    kv_indices: Array,
    kv_indptr: Array,
    kv_last_page_len: Array,
    kv_layout: str = "NHD",
) -> None:
    """Writes K/V rows into a paged cache: row i goes to token ``positions[i]`` of request
    ``batch_indices[i]``.

    append_key, append_value: ``[nnz, num_kv_heads, head_dim]``; paged_kv_cache: ``[pages, 2,
    page_size, num_kv_heads, head_dim]`` (NHD), ``[pages, 2, num_kv_heads, page_size, head_dim]``
    (HND) or a tuple of two pools. Unlike FlashInfer, rows with a negative batch index are skipped
    and rows outside the table are refused (CPU) or skipped (CUDA). Raises ValueError, TypeError.
    """
    op = "append_paged_kv_cache"
    _options.check_kv_layout(op, kv_layout)
    k_cache, v_cache = split_paged_kv_cache(op, paged_kv_cache, kv_layout)
    _append.append_paged_kv(
        append_key,
        append_value,
        as_int32(batch_indices),
        as_int32(positions),
        k_cache,
        v_cache,
        as_int32(kv_indptr),
        as_int32(kv_indices),
        as_int32(kv_last_page_len),
        kv_layout,
    )


def append_paged_mla_kv_cache(
    append_ckv: Array,
    append_kpe: Array,
    batch_indices: Array,
    positions: Array,
    ckv_cache: Array,
    kpe_cache: Array,
    kv_indices: Array,
    kv_indptr: Array,
    kv_last_page_len: Array,
) -> None:
    """The same for MLA's latent cache: append_ckv ``[nnz, ckv_dim]``, append_kpe ``[nnz,
    kpe_dim]``, ckv_cache ``[pages, page_size, ckv_dim]``, kpe_cache ``[pages, page_size,
    kpe_dim]``, any dims."""
    _append.append_paged_mla(
        append_ckv,
        append_kpe,
        as_int32(batch_indices),
        as_int32(positions),
        ckv_cache,
        kpe_cache,
        as_int32(kv_indptr),
        as_int32(kv_indices),
        as_int32(kv_last_page_len),
    )


def get_batch_indices_positions(
    append_indptr: Array,
    seq_lens: Array,
    nnz: int,
    batch_indices: Optional[Array] = None,
    positions: Optional[Array] = None,
) -> Tuple[Array, Array]:
    """One (request, position) a token of a ragged append, two int32 ``[nnz]`` tensors.

    append_indptr: ``[batch + 1]``; seq_lens: ``[batch]``, lengths after the append. Entries past
    ``append_indptr[-1]`` get request -1 and position 0. batch_indices, positions: where to write.
    """
    arrays = arrays_of(append_indptr)
    indptr, lens = as_int32(append_indptr), as_int32(seq_lens)
    given = (batch_indices, positions)
    new = [arrays.empty((nnz,), "i32", indptr) if x is None else x for x in given]
    op = "get_batch_indices_positions"
    stream = stream_of(indptr, None)
    targets = [
        arrays_of(x).export_output(x, op, name)
        for x, name in zip(new, ("batch_indices", "positions"))
    ]
    library.get_batch_indices_positions(export(indptr), export(lens), *targets, stream)
    finished = [x if y is not None else arrays.finish(x, stream) for x, y in zip(new, given)]
    return finished[0], finished[1]


def get_seq_lens(kv_indptr: Array, kv_last_page_len: Array, page_size: int) -> Array:
    """Tokens a request, int32 ``[batch]``. Unlike FlashInfer, 0 for a request without pages,
    whatever its last_page_len says."""
    return _append.get_seq_lens(as_int32(kv_indptr), as_int32(kv_last_page_len), page_size)


def as_int32(array: Array) -> Array:
    """Integers as contiguous int32, as FlashInfer casts its index tensors."""
    arrays = arrays_of(array)
    if arrays.dtype(array) not in ("i32", "i64"):
        raise TypeError(f"page: index tensor: got {arrays.dtype(array)}, expected int32")
    return arrays.contiguous(arrays.cast(array, "i32"))
