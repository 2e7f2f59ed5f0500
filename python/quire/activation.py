"""Gated activations: ``act(input[..., :hidden]) * input[..., hidden:]``.

input: ``[..., 2 * hidden]``, f32/f16/bf16, last dimension contiguous. out: ``[..., hidden]``. All
raise ValueError for shapes and strides, TypeError for dtypes.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

from ._arrays import Array, dtype_name, export
from ._library import library
from ._outputs import Outputs

_silu_and_mul = library.silu_and_mul
_gelu_and_mul = library.gelu_and_mul
_gelu_tanh_and_mul = library.gelu_tanh_and_mul
_silu_and_mul_quant = library.silu_and_mul_quant
_gelu_and_mul_quant = library.gelu_and_mul_quant
_gelu_tanh_and_mul_quant = library.gelu_tanh_and_mul_quant


def silu_and_mul(
    input: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``act(x) = x * sigmoid(x)``"""
    return _apply("silu_and_mul", _silu_and_mul, input, out, stream)


def gelu_and_mul(
    input: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``act(x) = x / 2 * (1 + erf(x / sqrt(2)))``"""
    return _apply("gelu_and_mul", _gelu_and_mul, input, out, stream)


def gelu_tanh_and_mul(
    input: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``act(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))``"""
    return _apply("gelu_tanh_and_mul", _gelu_tanh_and_mul, input, out, stream)


def silu_and_mul_quant(
    input: Array,
    scale: Any = None,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    power_of_two: bool = False,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """silu_and_mul to fp8: ``value / scale``, saturating. Returns (out, scales).

    scale: a number or an f32 tensor of one element. None: a scale for every 128 neighbours in a
    row is computed, ``max(amax, 1e-10) / 448`` (57344 for f8e5m2) or, with power_of_two, the
    power of two at or above it, into scales, f32 ``[..., hidden / 128]`` of any strides; else
    scales is None. dtype: of out where that is not given.
    """
    options = (scale, out, scales, dtype, power_of_two, stream)
    return _quantize("silu_and_mul_quant", _silu_and_mul_quant, input, *options)


def gelu_and_mul_quant(
    input: Array,
    scale: Any = None,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    power_of_two: bool = False,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """gelu_and_mul to fp8, as :func:`silu_and_mul_quant`."""
    options = (scale, out, scales, dtype, power_of_two, stream)
    return _quantize("gelu_and_mul_quant", _gelu_and_mul_quant, input, *options)


def gelu_tanh_and_mul_quant(
    input: Array,
    scale: Any = None,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    power_of_two: bool = False,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """gelu_tanh_and_mul to fp8, as :func:`silu_and_mul_quant`."""
    options = (scale, out, scales, dtype, power_of_two, stream)
    return _quantize("gelu_tanh_and_mul_quant", _gelu_tanh_and_mul_quant, input, *options)


def _out_shape(op: str, input: Array) -> Tuple[int, ...]:
    if len(input.shape) == 0:
        raise ValueError(f"{op}: input: got rank 0, expected at least 1")
    return (*input.shape[:-1], input.shape[-1] // 2)


def _apply(
    op: str,
    function: Callable[..., None],
    input: Array,
    out: Optional[Array],
    stream: Optional[int],
) -> Array:
    outputs = Outputs(op, input, stream)
    shape = _out_shape(op, input) if out is None else ()
    target = outputs.add("out", out, shape, outputs.arrays.dtype(input))
    function(export(input), target, outputs.stream)
    return outputs.results()[0]


def _quantize(
    op: str,
    function: Callable[..., None],
    input: Array,
    scale: Any,
    out: Optional[Array],
    scales: Optional[Array],
    dtype: Any,
    power_of_two: bool,
    stream: Optional[int],
) -> Tuple[Array, Optional[Array]]:
    outputs = Outputs(op, input, stream)
    shape = _out_shape(op, input)
    target = outputs.add("out", out, shape, dtype_name(dtype))
    scaling = outputs.add_scale(scale, scales, (*shape[:-1], shape[-1] // 128))
    function(export(input), target, *scaling, power_of_two, outputs.stream)
    result, written = outputs.results()
    return result, written
