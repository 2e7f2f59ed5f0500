"""FlashInfer's ``flashinfer.norm``. enable_pdl is accepted and has no effect."""

from __future__ import annotations

from typing import Optional

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
