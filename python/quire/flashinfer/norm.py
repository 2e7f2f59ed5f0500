"""FlashInfer's ``flashinfer.norm``. enable_pdl is accepted and has no effect."""

from __future__ import annotations

from typing import Optional, Union

from .. import norm as _norm
from .._arrays import Array


def rmsnorm(
    input: Array,
    weight: Array,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    enable_pdl: Optional[bool] = None,
) -> Array:
    """``input / sqrt(mean(input ** 2) + eps) * weight``; input ``[n, hidden]`` or ``[n, heads,
    head_dim]``, weight ``[hidden]``. Raises ValueError, TypeError."""
    return _norm.rms_norm(input, weight, eps, out)


def rmsnorm_quant(
    out: Array,
    input: Array,
    weight: Array,
    scale: Union[float, Array],
    eps: float = 1e-6,
    enable_pdl: Optional[bool] = None,
) -> None:
    """rmsnorm to an fp8 out: ``value / scale``, saturating. scale: a number or a tensor of one
    element. Raises ValueError, TypeError."""
    _norm.rms_norm_quant(input, weight, scale, eps, out)


def fused_add_rmsnorm(
    input: Array,
    residual: Array,
    weight: Array,
    eps: float = 1e-6,
    enable_pdl: Optional[bool] = None,
) -> None:
    """In place: ``residual += input``, then ``input = rmsnorm(residual) * weight``; both
    ``[n, hidden]``. Raises ValueError, TypeError."""
    _norm.fused_add_rms_norm(input, residual, weight, eps)


def fused_add_rmsnorm_quant(
    out: Array,
    input: Array,
    residual: Array,
    weight: Array,
    scale: Union[float, Array],
    eps: float = 1e-6,
    enable_pdl: Optional[bool] = None,
) -> None:
    """``residual += input``, then rmsnorm_quant of it into out; input stays as it is."""
    _norm.fused_add_rms_norm_quant(input, residual, weight, scale, eps, out)


def gemma_rmsnorm(
    input: Array,
    weight: Array,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    enable_pdl: Optional[bool] = None,
) -> Array:
    """rmsnorm with ``weight + 1``."""
    return _norm.rms_norm(input, weight, eps, out, gemma=True)


def gemma_fused_add_rmsnorm(
    input: Array,
    residual: Array,
    weight: Array,
    eps: float = 1e-6,
    enable_pdl: Optional[bool] = None,
) -> None:
    """fused_add_rmsnorm with ``weight + 1``."""
    _norm.fused_add_rms_norm(input, residual, weight, eps, gemma=True)


def layernorm(input: Array, gemma: Array, beta: Array, eps: float = 1e-6) -> Array:
    """``(input - mean) / sqrt(var + eps) * gemma + beta``; gemma, the weight, and beta ``[hidden]``
    in float32 or the dtype of input. Unlike FlashInfer also for float16 and float32."""
    return _norm.layer_norm(input, gemma, beta, eps)


def layernorm_quant(
    out: Array,
    input: Array,
    gemma: Array,
    beta: Array,
    scale: Union[float, Array],
    eps: float = 1e-6,
) -> None:
    """layernorm to an fp8 out; scale as in rmsnorm_quant."""
    _norm.layer_norm_quant(input, gemma, beta, scale, eps, out)
