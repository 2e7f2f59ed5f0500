"""FlashInfer's ``flashinfer.quantization``: fp8 by groups, NVFP4 key-value caches, bit packing."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from .. import nvfp4_kv as _nvfp4_kv
from .. import quantize as _quantize
from .._arrays import Array, arrays_of, dtype_name
from . import _options
from ._kv_cache import split_paged_kv_cache


def packbits(x: Array, bitorder: str = "big") -> Array:
    """Eight truth values a byte, uint8 ``[ceil(n / 8)]``; bitorder "big" or "little"."""
    return _quantize.packbits(x, bitorder)


def segment_packbits(x: Array, indptr: Array, bitorder: str = "big") -> Tuple[Array, Array]:
    """Every segment ``x[indptr[r]:indptr[r + 1]]`` by itself: (bytes, their indptr).

    The size of the result is read from indptr, which waits for its device.
    """
    arrays = arrays_of(indptr)
    host = arrays.to_numpy(indptr).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum((np.diff(host) + 7) // 8)]).astype(np.int32)
    on_device = arrays.move(arrays.from_numpy(host, x), x)
    out_indptr = arrays.move(arrays.from_numpy(ends, x), x)
    num_bytes = int(ends[-1])
    packed = _quantize.segment_packbits(x, on_device, out_indptr, num_bytes, bitorder)
    return packed, out_indptr


def per_token_group_quant_8bit(
    x: Array,
    group_size: int,
    eps: float = 1e-10,
    dst_dtype: Optional[Any] = None,
    column_major_scales: bool = False,
    scale_tma_aligned: bool = False,
    scale_ue8m0: bool = False,
    backend: str = "cutile",
) -> Tuple[Array, Array]:
    """(x / scale in fp8, float32 scales ``[..., K / group_size]``) of x ``[..., K]``, contiguous; a
    scale is ``max(amax, eps)`` of its group over the largest value of dst_dtype (None: e4m3).

    column_major_scales, for x of two dimensions: scales of neighbouring tokens are neighbours in
    memory. With it, scale_tma_aligned: those of a column begin at multiples of 16 bytes;
    scale_ue8m0: powers of two, rounded up. backend chooses nothing. Raises ValueError, TypeError,
    and NotImplementedError for int8 and for another eps than 1e-10.
    """
    op = "per_token_group_quant_8bit"
    if str(dst_dtype).rsplit(".", 1)[-1] == "int8":
        raise _options.not_implemented(op, "dst_dtype", dst_dtype)
    if eps != 1e-10:
        raise _options.not_implemented(op, "eps", eps)
    cols = x.shape[-1] if len(x.shape) > 0 else 0
    if group_size <= 0 or cols % group_size != 0:
        raise ValueError(f"{op}: group_size: got {group_size}, expected a divisor of {cols}")
    if column_major_scales and len(x.shape) != 2:
        raise ValueError(f"{op}: x: got {len(x.shape)} dimensions, expected 2 with column_major")
    if (scale_tma_aligned or scale_ue8m0) and not column_major_scales:
        name = "scale_tma_aligned" if scale_tma_aligned else "scale_ue8m0"
        raise ValueError(f"{op}: {name}: got True, expected False without column_major_scales")
    scales = None
    if column_major_scales:
        rows = x.shape[0]
        stride = -(-rows // 4) * 4 if scale_tma_aligned else rows
        scales = arrays_of(x).empty((cols // group_size, stride), "f32", x)[:, :rows].T
    flat = x if len(x.shape) == 2 else x.reshape(-1, cols)
    out, written = _quantize.quantize_fp8(
        flat,
        None,
        None,
        scales,
        block=(1, group_size),
        dtype="f8e4m3" if dst_dtype is None else dtype_name(dst_dtype),
        power_of_two=scale_ue8m0,
    )
    if flat is x:
        return out, written
    return out.reshape(x.shape), written.reshape(*x.shape[:-1], cols // group_size)


def nvfp4_kv_dequantize(
    fp4_data: Array, block_scales: Array, global_scale: Any, output_dtype: Any = "bfloat16"
) -> Array:
    """``[M, K]`` of fp4_data, uint8 ``[M, K / 2]``, and block_scales, e4m3 in uint8 ``[M, K /
    16]``. global_scale: float32 ``[1]``. Raises ValueError, TypeError."""
    return _nvfp4_kv.nvfp4_kv_dequantize(fp4_data, block_scales, global_scale, dtype=output_dtype)


def nvfp4_kv_quantize(input: Array, global_scale: Any) -> Tuple[Array, Array]:
    """(fp4_data, block_scales) of input ``[M, K]``, K a multiple of 16; on every device. Raises
    ValueError, TypeError."""
    return _nvfp4_kv.nvfp4_kv_quantize(input, global_scale)


def nvfp4_kv_dequantize_paged(
    paged_kv_cache: Any,
    kv_cache_sf: Any,
    block_tables: Array,
    seq_lens: Array,
    k_scale: Any,
    v_scale: Any,
    output_k: Array,
    output_v: Array,
    kv_layout: str = "NHD",
) -> None:
    """Writes the tokens of the requests, ``seq_lens[r]`` of request r, to output_k and output_v,
    ``[batch, max_seq_len, num_kv_heads, head_dim]``.

    paged_kv_cache, kv_cache_sf: codes and block scales, each a tuple of two pools or a tensor with
    K and V along its second dimension. Raises ValueError, TypeError.
    """
    op = "nvfp4_kv_dequantize_paged"
    _options.check_kv_layout(op, kv_layout)
    pools = split_paged_kv_cache(op, paged_kv_cache, kv_layout)
    scales = split_paged_kv_cache(op, kv_cache_sf, kv_layout)
    for pool, scale, global_scale, out in zip(
        pools, scales, (k_scale, v_scale), (output_k, output_v)
    ):
        _nvfp4_kv.nvfp4_kv_dequantize_paged(
            pool, scale, block_tables, seq_lens, out, global_scale, kv_layout
        )
