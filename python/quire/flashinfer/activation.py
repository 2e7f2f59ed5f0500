"""FlashInfer's ``flashinfer.activation``. enable_pdl is accepted and has no effect."""

from __future__ import annotations

from typing import Optional

from .. import activation as _activation
from .._arrays import Array


def silu_and_mul(
    input: Array, out: Optional[Array] = None, enable_pdl: Optional[bool] = None
) -> Array:
    """``silu(input[..., :hidden]) * input[..., hidden:]``; input ``[..., 2 * hidden]``. Unlike
    FlashInfer also for float32 and for any hidden size. Raises ValueError, TypeError."""
    return _activation.silu_and_mul(input, out)


def gelu_and_mul(
    input: Array, out: Optional[Array] = None, enable_pdl: Optional[bool] = None
) -> Array:
    """``gelu(input[..., :hidden]) * input[..., hidden:]`` with the error function."""
    return _activation.gelu_and_mul(input, out)


def gelu_tanh_and_mul(
    input: Array, out: Optional[Array] = None, enable_pdl: Optional[bool] = None
) -> Array:
    """``gelu(input[..., :hidden]) * input[..., hidden:]`` in the approximation by tanh."""
    return _activation.gelu_tanh_and_mul(input, out)
