"""Quantization to fp8 and back, and bit packing. All raise ValueError for shapes and values,
TypeError for dtypes and for arrays that cannot be written (JAX)."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, dtype_name, export
from ._library import library
from ._outputs import Outputs
from .append import export_scale

_quantize_fp8 = library.quantize_fp8
_dequantize_fp8 = library.dequantize_fp8
_packbits = library.packbits
_segment_packbits = library.segment_packbits


def quantize_fp8(
    input: Array,
    scale: Any = None,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    block: Tuple[int, int] = (1, 0),
    dtype: Any = "f8e4m3",
    power_of_two: bool = False,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """``input / scale`` in fp8, rounded to nearest even, saturating. Returns (out, scales).

    input: ``[rows, cols]`` f32/f16/bf16, last dimension contiguous. scale: a number or an f32
    tensor of one element. None: a scale for every block of ``block`` rows x columns (0 columns: a
    whole row) is computed, ``max(amax, 1e-10) / 448`` (57344 for f8e5m2) or, with power_of_two, the
    power of two at or above it, into scales, f32 ``[ceil(rows / block[0]), ceil(cols /
    block[1])]`` of any strides; else scales is None. dtype: of out where that is not given.
    """
    outputs = Outputs("quantize_fp8", input, stream)
    target = outputs.add("out", out, input.shape, dtype_name(dtype))
    shape: Tuple[int, ...] = ()
    if len(input.shape) == 2:
        cols = block[1] or max(1, input.shape[1])
        shape = (-(-input.shape[0] // max(1, block[0])), -(-input.shape[1] // max(1, cols)))
    scaling = outputs.add_scale(scale, scales, shape)
    _quantize_fp8(export(input), target, *scaling, power_of_two, *block, outputs.stream)
    result, written = outputs.results()
    return result, written


def dequantize_fp8(
    input: Array,
    scale: Any = 1.0,
    out: Optional[Array] = None,
    *,
    block: Tuple[int, int] = (1, 0),
    dtype: Any = "bf16",
    stream: Optional[int] = None,
) -> Array:
    """``input * scale``. input: f8e4m3 or f8e5m2 ``[rows, cols]``; scale: a number, an f32 tensor
    of one element, or of rank 2 with one for every block. dtype: of out, f32/f16/bf16."""
    outputs = Outputs("dequantize_fp8", input, stream)
    target = outputs.add("out", out, input.shape, dtype_name(dtype))
    _dequantize_fp8(export(input), target, *export_scale(scale), *block, outputs.stream)
    return outputs.results()[0]


def packbits(x: Array, bitorder: str = "big", *, stream: Optional[int] = None) -> Array:
    """Eight truth values a byte, as ``numpy.packbits``: u8 ``[ceil(n / 8)]`` of x, bool or u8
    ``[n]``; bitorder "big" or "little"."""
    outputs = Outputs("packbits", x, stream)
    size = x.shape[0] if len(x.shape) > 0 else 0
    target = outputs.add("out", None, (-(-size // 8),), "u8")
    _packbits(export(x), target, _is_big("packbits", bitorder), outputs.stream)
    return outputs.results()[0]


def segment_packbits(
    x: Array,
    indptr: Array,
    out_indptr: Array,
    num_bytes: int,
    bitorder: str = "big",
    *,
    stream: Optional[int] = None,
) -> Array:
    """Every segment ``x[indptr[r]:indptr[r + 1]]`` by itself, u8 ``[num_bytes]``: bytes
    ``out_indptr[r]`` to ``out_indptr[r + 1]``, an eighth of the segment, rounded up.

    indptr, out_indptr: i32 ``[segments + 1]`` on the device of x; nothing is read back from it.
    """
    outputs = Outputs("segment_packbits", x, stream)
    big = _is_big(outputs.op, bitorder)
    target = outputs.add("out", None, (num_bytes,), "u8")
    _segment_packbits(export(x), export(indptr), export(out_indptr), target, big, outputs.stream)
    return outputs.results()[0]


def _is_big(op: str, bitorder: str) -> bool:
    if bitorder not in ("big", "little"):
        raise ValueError(f"{op}: bitorder: got {bitorder!r}, expected 'big' or 'little'")
    return bitorder == "big"
