"""FlashInfer's ``flashinfer.quantization``: NVFP4 key-value caches, bit packing."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np

from .. import nvfp4_kv as _nvfp4_kv
from .. import quantize as _quantize
from .._arrays import Array, arrays_of
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
