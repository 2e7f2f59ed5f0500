"""Gated activations."""

from __future__ import annotations

from typing import Optional

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_silu_and_mul = library.silu_and_mul


def silu_and_mul(
    input: Array, out: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``silu(input[..., :hidden]) * input[..., hidden:]``.

    input: ``[..., 2 * hidden]``, f32/f16/bf16, last dimension contiguous. out: ``[..., hidden]``.
    Raises ValueError for shapes and strides, TypeError for dtypes.
    """
    arrays = arrays_of(input)
    if out is None:
        if len(input.shape) == 0:
            raise ValueError("silu_and_mul: input: got rank 0, expected at least 1")
        shape = (*input.shape[:-1], input.shape[-1] // 2)
        result = arrays.empty(shape, arrays.dtype(input), input)
    else:
        result = out
    target = export_output(result, "silu_and_mul", "out")
    stream = stream_of(input, stream)
    _silu_and_mul(export(input), target, stream)
    return result if out is not None else arrays.finish(result, stream)
