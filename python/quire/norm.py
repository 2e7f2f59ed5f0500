"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import Optional

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_rms_norm = library.rms_norm
_fused_add_rms_norm = library.fused_add_rms_norm


def rms_norm(
    input: Array,
    weight: Array,
    eps: float = 1e-6,
    out: Optional[Array] = None,
    *,
    stream: Optional[int] = None,
) -> Array:
    """``input / sqrt(mean(input ** 2) + eps) * weight`` over the last dimension.

    input: ``[n, hidden]`` or ``[n, heads, head_dim]``, f32/f16/bf16, last dimension contiguous.
    weight: ``[hidden]`` (or ``[head_dim]``) of the same dtype. out: like input; may be input.
    Raises ValueError for shapes, strides and eps, TypeError for dtypes.
    """
    arrays = arrays_of(input)
    result = arrays.empty(input.shape, arrays.dtype(input), input) if out is None else out
    target = export_output(result, "rms_norm", "out")
    stream = stream_of(input, stream)
    _rms_norm(export(input), export(weight), target, eps, stream)
    return result if out is not None else arrays.finish(result, stream)


def fused_add_rms_norm(
    input: Array,
    residual: Array,
    weight: Array,
    eps: float = 1e-6,
    *,
    stream: Optional[int] = None,
) -> None:
    """``residual += input; input = rms_norm(residual) * weight``, both ``[n, hidden]``, in place.

    Raises as :func:`rms_norm`, and TypeError for arrays that cannot be written (JAX).
    """
    op = "fused_add_rms_norm"
    target = export_output(input, op, "input")
    residual_target = export_output(residual, op, "residual")
    _fused_add_rms_norm(target, residual_target, export(weight), eps, stream_of(input, stream))
