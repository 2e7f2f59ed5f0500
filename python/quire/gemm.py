"""Dense matrix product."""

from __future__ import annotations

from typing import Any, Optional

from ._arrays import Array, arrays_of, dtype_name, export, export_output, stream_of
from ._library import library

_gemm = library.gemm


def gemm(
    a: Array,
    weight: Array,
    out: Optional[Array] = None,
    *,
    out_dtype: Any = None,
    stream: Optional[int] = None,
) -> Array:
    """``out[m, n] = sum_k a[m, k] * weight[n, k]``, accumulated in f32.

    a: ``[m, k]``, weight: ``[n, k]``, one dtype of f32/f16/bf16; out: ``[m, n]`` of that dtype or
    f32 (``out_dtype``; the dtype of a unless given). Rows of any stride.
    Raises ValueError for shapes, TypeError for dtypes, RuntimeError when the BLAS library of the
    device is not found.
    """
    arrays = arrays_of(a)
    if out is None:
        if len(a.shape) != 2 or len(weight.shape) != 2:
            shapes = f"shapes {tuple(a.shape)} and {tuple(weight.shape)}"
            raise ValueError(f"gemm: a, weight: got {shapes}, expected [m, k] and [n, k]")
        dtype = arrays.dtype(a) if out_dtype is None else dtype_name(out_dtype)
        result = arrays.empty((a.shape[0], weight.shape[0]), dtype, a)
    else:
        result = out
    target = export_output(result, "gemm", "out")
    stream = stream_of(a, stream)
    _gemm(export(a), export(weight), target, stream)
    return result if out is not None else arrays.finish(result, stream)
