"""Root-mean-square and layer normalisation.

input: ``[n, hidden]`` or ``[n, heads, head_dim]``, f32/f16/bf16, last dimension contiguous, which
is normalised. weight, gamma, beta: ``[hidden]`` (or ``[head_dim]``) of the same dtype or f32. All
raise ValueError for shapes, strides and numbers, TypeError for dtypes and for arrays that cannot
be written (JAX).
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, arrays_of, dtype_name, export, export_output, stream_of
from ._library import library
from ._outputs import Outputs

_rms_norm = library.rms_norm
_fused_add_rms_norm = library.fused_add_rms_norm
_layer_norm = library.layer_norm
_rms_norm_quant = library.rms_norm_quant
_fused_add_rms_norm_quant = library.fused_add_rms_norm_quant
_layer_norm_quant = library.layer_norm_quant


def rms_norm(
    input: Array,
    weight: Array,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    *,
    gemma: bool = False,
    stream: Optional[int] = None,
) -> Array:
    """``input / sqrt(mean(input ** 2) + eps) * weight`` over the last dimension.

    out: like input; may be input. gemma: weight + 1, as Gemma's checkpoints store it.
    """
    arrays = arrays_of(input)
    result = arrays.empty(input.shape, arrays.dtype(input), input) if out is None else out
    target = export_output(result, "rms_norm", "out")
    stream = stream_of(input, stream)
    _rms_norm(export(input), export(weight), target, eps, gemma, stream)
    return result if out is not None else arrays.finish(result, stream)


def fused_add_rms_norm(
    input: Array,
    residual: Array,
    weight: Array,
    eps: float = 1e-6,
    *,
    gemma: bool = False,
    stream: Optional[int] = None,
) -> None:
    """``residual += input; input = rms_norm(residual) * weight``, ``[n, hidden]``, in place."""
    op = "fused_add_rms_norm"
    target = export_output(input, op, "input")
    residual_target = export_output(residual, op, "residual")
    stream = stream_of(input, stream)
    _fused_add_rms_norm(target, residual_target, export(weight), eps, gemma, stream)


def layer_norm(
    input: Array,
    gamma: Array,
    beta: Array,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    *,
    stream: Optional[int] = None,
) -> Array:
    """``(input - mean(input)) / sqrt(var(input) + eps) * gamma + beta``; out may be input."""
    arrays = arrays_of(input)
    result = arrays.empty(input.shape, arrays.dtype(input), input) if out is None else out
    target = export_output(result, "layer_norm", "out")
    stream = stream_of(input, stream)
    _layer_norm(export(input), export(gamma), export(beta), target, eps, stream)
    return result if out is not None else arrays.finish(result, stream)


def rms_norm_quant(
    input: Array,
    weight: Array,
    scale: Any = None,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    weight_bias: float = 0.0,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """rms_norm to fp8: ``value / scale``, saturating. Returns (out, scales).

    scale: a number or an f32 tensor of one element. None: a scale a row is computed, ``max(amax,
    1e-10) / 448`` (57344 for f8e5m2), into scales, f32 ``[n]`` or ``[n, heads]``; else scales is
    None. dtype: of out where that is not given. weight_bias is added to weight (Gemma: 1).
    """
    outputs = Outputs("rms_norm_quant", input, stream)
    target = outputs.add("out", out, input.shape, dtype_name(dtype))
    scaling = outputs.add_scale(scale, scales, input.shape[:-1])
    _rms_norm_quant(
        export(input), export(weight), target, *scaling, eps, weight_bias, outputs.stream
    )
    return outputs.results()


def fused_add_rms_norm_quant(
    input: Array,
    residual: Array,
    weight: Array,
    scale: Any = None,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    weight_bias: float = 0.0,
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """``residual += input``, then :func:`rms_norm_quant` of it; input stays as it is."""
    outputs = Outputs("fused_add_rms_norm_quant", input, stream)
    target = outputs.add("out", out, input.shape, dtype_name(dtype))
    scaling = outputs.add_scale(scale, scales, input.shape[:-1])
    _fused_add_rms_norm_quant(
        export(input),
        export_output(residual, outputs.op, "residual"),
        export(weight),
        target,
        *scaling,
        eps,
        weight_bias,
        outputs.stream,
    )
    return outputs.results()


def layer_norm_quant(
    input: Array,
    gamma: Array,
    beta: Array,
    scale: Any = None,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    scales: Optional[Array] = None,
    *,
    dtype: Any = "f8e4m3",
    stream: Optional[int] = None,
) -> Tuple[Array, Optional[Array]]:
    """layer_norm to fp8; scales as in :func:`rms_norm_quant`."""
    outputs = Outputs("layer_norm_quant", input, stream)
    target = outputs.add("out", out, input.shape, dtype_name(dtype))
    scaling = outputs.add_scale(scale, scales, input.shape[:-1])
    _layer_norm_quant(
        export(input), export(gamma), export(beta), target, *scaling, eps, outputs.stream
    )
    return outputs.results()
