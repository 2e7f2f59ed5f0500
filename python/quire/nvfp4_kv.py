"""NVFP4 key-value caches: e2m1 codes, two a byte (the even element in the low half), an e4m3 scale
for every 16 neighbours and a global scale; ``value = code * block scale * global scale``.

global_scale: a number above 0, or an f32 tensor of one element on the device of the data. All raise
ValueError for shapes and values, TypeError for dtypes and for arrays that cannot be written (JAX).
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, dtype_name, export, export_output, stream_of
from ._library import library
from ._outputs import Outputs
from .append import export_scale, is_hnd

_nvfp4_kv_dequantize = library.nvfp4_kv_dequantize
_nvfp4_kv_quantize = library.nvfp4_kv_quantize
_nvfp4_kv_dequantize_paged = library.nvfp4_kv_dequantize_paged


def nvfp4_kv_dequantize(
    data: Array,
    block_scales: Array,
    global_scale: Any = 1.0,
    out: Optional[Array] = None,
    *,
    dtype: Any = "bf16",
    stream: Optional[int] = None,
) -> Array:
    """``[rows, head_dim]`` from data, u8 ``[rows, head_dim / 2]``, and block_scales, f8e4m3 or u8
    with its bits, ``[rows, head_dim / 16]``. dtype: of out where that is not given, f32/f16/bf16.
    """
    outputs = Outputs("nvfp4_kv_dequantize", data, stream)
    target = outputs.add("out", out, _with_columns(data, 2, 1), dtype_name(dtype))
    _nvfp4_kv_dequantize(
        export(data), export(block_scales), *export_scale(global_scale), target, outputs.stream
    )
    return outputs.results()[0]


def nvfp4_kv_quantize(
    input: Array,
    global_scale: Any = 1.0,
    data: Optional[Array] = None,
    block_scales: Optional[Array] = None,
    *,
    stream: Optional[int] = None,
) -> Tuple[Array, Array]:
    """The other way: (data, block_scales), both u8, of input f32/f16/bf16 ``[rows, head_dim]``;
    head_dim is a multiple of 16. Block scale = largest magnitude / (6 * global_scale), rounded to
    nearest even and at most 448."""
    outputs = Outputs("nvfp4_kv_quantize", input, stream)
    codes = outputs.add("data", data, _with_columns(input, 1, 2), "u8")
    scales = outputs.add("block_scales", block_scales, _with_columns(input, 1, 16), "u8")
    _nvfp4_kv_quantize(export(input), *export_scale(global_scale), codes, scales, outputs.stream)
    result, written = outputs.results()
    return result, written


def nvfp4_kv_dequantize_paged(
    data: Array,
    block_scales: Array,
    block_tables: Array,
    seq_lens: Array,
    out: Array,
    global_scale: Any = 1.0,
    kv_layout: str = "NHD",
    *,
    stream: Optional[int] = None,
) -> None:
    """Writes token t of request r to ``out[r, t]``, for ``t < seq_lens[r]``; leaves the others.

    data: u8 ``[pages, page_size, num_kv_heads, head_dim / 2]`` (NHD) or ``[pages, num_kv_heads,
    page_size, head_dim / 2]`` (HND), block_scales the same with ``head_dim / 16``; block_tables i32
    or i64 ``[batch, max_pages]``; seq_lens i32 ``[batch]``; out ``[batch, max_seq_len,
    num_kv_heads, head_dim]`` f32/f16/bf16. Lengths and page ids that lead outside are a ValueError
    on the CPU; on CUDA such tokens are not written.
    """
    op = "nvfp4_kv_dequantize_paged"
    _nvfp4_kv_dequantize_paged(
        export(data),
        export(block_scales),
        is_hnd(kv_layout, op),
        export(block_tables),
        export(seq_lens),
        *export_scale(global_scale),
        export_output(out, op, "out"),
        stream_of(data, stream),
    )


def _with_columns(array: Array, times: int, divided_by: int) -> Tuple[int, ...]:
    shape = tuple(array.shape)
    return (*shape[:-1], shape[-1] * times // divided_by) if shape else ()
