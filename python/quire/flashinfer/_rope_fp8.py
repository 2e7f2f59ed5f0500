"""The functions of ``flashinfer.rope`` whose results are fp8."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from .. import rope as _rope
from .._arrays import Array, arrays_of, dtype_name
from . import _options
from ._kv_cache import split_paged_kv_cache
from .page import as_int32


def rope_quantize_fp8(
    q_rope: Array,
    k_rope: Array,
    q_nope: Optional[Array],
    k_nope: Optional[Array],
    cos_sin_cache: Array,
    pos_ids: Array,
    is_neox: bool = True,
    quantize_dtype: Any = None,
    quant_scale_q: float = 1.0,
    quant_scale_kv: float = 1.0,
    q_rope_out: Optional[Array] = None,
    k_rope_out: Optional[Array] = None,
    q_nope_out: Optional[Array] = None,
    k_nope_out: Optional[Array] = None,
    enable_pdl: bool = False,
    backend: str = "cuda",
) -> Tuple[Array, Array, Array, Array]:
    """Turns q_rope and k_rope and converts all parts to fp8, ``value * quant_scale``.

    Shapes as in :func:`quire.rope_quantize_fp8`; the results of parts that are None have no
    elements. Returns (q_rope_out, k_rope_out, q_nope_out, k_nope_out).
    """
    if backend not in ("cuda", "cutile"):
        raise ValueError(f"rope_quantize_fp8: backend: got {backend!r}, expected 'cuda'")
    outs = {
        "q_rope_out": q_rope_out,
        "k_rope_out": k_rope_out,
        "q_nope_out": q_nope_out,
        "k_nope_out": k_nope_out,
    }
    dtype = _quantized_dtype(quantize_dtype, *outs.values())
    results = _rope.rope_quantize_fp8(
        q_rope,
        k_rope,
        q_nope,
        k_nope,
        pos_ids,
        q_scale=1.0 / quant_scale_q,
        kv_scale=1.0 / quant_scale_kv,
        dtype=dtype,
        interleave=not is_neox,
        cos_sin_cache=cos_sin_cache,
        **outs,
    )
    return (
        results[0],
        results[1],
        _empty_part(q_rope, dtype) if results[2] is None else results[2],
        _empty_part(k_rope, dtype) if results[3] is None else results[3],
    )


def mla_rope_quantize_fp8(
    q_rope: Array,
    k_rope: Array,
    q_nope: Optional[Array],
    k_nope: Optional[Array],
    cos_sin_cache: Array,
    pos_ids: Array,
    is_neox: bool = True,
    quantize_dtype: Any = None,
    quant_scale_q: float = 1.0,
    quant_scale_kv: float = 1.0,
    q_rope_out: Optional[Array] = None,
    k_rope_out: Optional[Array] = None,
    q_nope_out: Optional[Array] = None,
    k_nope_out: Optional[Array] = None,
    enable_pdl: bool = False,
) -> Tuple[Array, Array, Array, Array]:
    """:func:`rope_quantize_fp8` with k_rope and k_nope of one head, ``[nnz, dim]``."""
    return rope_quantize_fp8(
        q_rope,
        k_rope,
        q_nope,
        k_nope,
        cos_sin_cache,
        pos_ids,
        is_neox,
        quantize_dtype,
        quant_scale_q,
        quant_scale_kv,
        q_rope_out,
        k_rope_out,
        q_nope_out,
        k_nope_out,
    )


def rope_quantize_fp8_append_paged_kv_cache(
    q_rope: Array,
    k_rope: Array,
    q_nope: Optional[Array],
    k_nope: Optional[Array],
    v: Optional[Array],
    cos_sin_cache: Array,
    pos_ids: Array,
    paged_kv_cache: Tuple[Array, Array],
    kv_indices: Array,
    kv_indptr: Array,
    batch_indices: Array,
    positions: Array,
    is_neox: bool = True,
    quantize_dtype: Any = None,
    quant_scale_q: float = 1.0,
    quant_scale_kv: float = 1.0,
    page_size: int = 16,
    kv_layout: str = "NHD",
    q_rope_out: Optional[Array] = None,
    q_nope_out: Optional[Array] = None,
    enable_pdl: bool = False,
) -> Tuple[Array, Array]:
    """rope_quantize_fp8 whose k, and v, go to a paged cache: (k_cache, v_cache), or without v
    (MLA) (ckv_cache, kpe_cache). page_size must be the cache's. Returns (q_rope_out, q_nope_out).
    """
    op = "rope_quantize_fp8_append_paged_kv_cache"
    _options.check_kv_layout(op, kv_layout)
    k_cache, v_cache = paged_kv_cache
    if v is not None:
        k_cache, v_cache = split_paged_kv_cache(op, paged_kv_cache, kv_layout)
    tokens = k_cache.shape[1 if v is None or kv_layout == "NHD" else 2]
    if tokens != page_size:
        raise ValueError(f"{op}: page_size: got {page_size}, expected {tokens}, as in the cache")
    dtype = _quantized_dtype(quantize_dtype, q_rope_out, q_nope_out, k_cache)
    indptr = as_int32(kv_indptr)
    # FlashInfer has no lengths here; full last pages allow every position of a request's pages.
    full_pages = indptr[1:] * 0 + page_size
    results = _rope.rope_append_paged_kv(
        q_rope,
        k_rope,
        q_nope,
        k_nope,
        v,
        pos_ids,
        k_cache,
        v_cache,
        batch_indices=as_int32(batch_indices),
        positions=as_int32(positions),
        kv_indptr=indptr,
        kv_indices=as_int32(kv_indices),
        kv_last_page_len=full_pages,
        kv_layout=kv_layout,
        q_scale=1.0 / quant_scale_q,
        k_scale=1.0 / quant_scale_kv,
        v_scale=1.0 / quant_scale_kv,
        q_dtype=dtype,
        q_rope_out=q_rope_out,
        q_nope_out=q_nope_out,
        interleave=not is_neox,
        cos_sin_cache=cos_sin_cache,
    )
    return results[0], _empty_part(q_rope, dtype) if results[1] is None else results[1]


def _quantized_dtype(quantize_dtype: Any, *arrays: Optional[Array]) -> Any:
    if quantize_dtype is not None:
        return quantize_dtype
    given = [array for array in arrays if array is not None]
    return arrays_of(given[0]).dtype(given[0]) if given else "f8e4m3"


def _empty_part(part: Array, dtype: Any) -> Array:
    return arrays_of(part).empty((*part.shape[:-1], 0), dtype_name(dtype), part)
