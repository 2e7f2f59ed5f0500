"""Rotary position embedding."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_apply_rope_pos_ids = library.apply_rope_pos_ids


class Llama31Rope(NamedTuple):
    """Llama 3.1's frequency scaling: wavelengths above ``old_context_len / low_freq_factor`` are
    divided by rope_scale, those below ``old_context_len / high_freq_factor`` kept, those between
    interpolated."""

    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    old_context_len: float = 8192.0


def apply_rope_pos_ids(
    q: Array,
    k: Array,
    pos_ids: Array,
    q_out: Optional[Array] = None,
    k_out: Optional[Array] = None,
    *,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1.0,
    rope_theta: float = 1e4,
    llama31: Optional[Llama31Rope] = None,
    stream: Optional[int] = None,
) -> Tuple[Array, Array]:
    """Rotates q ``[nnz, num_qo_heads, head_dim]`` and k ``[nnz, num_kv_heads, head_dim]``.

    f32/f16/bf16, last dimension contiguous; pos_ids: i32 or i64 ``[nnz]``. rotary_dim: even, at
    most head_dim (default); dims past it are copied. interleave: pairs (2i, 2i + 1) rather than
    halves. Passing q and k as q_out and k_out works in place. Returns (q_out, k_out).
    Raises ValueError for shapes and options, TypeError for dtypes.
    """
    op = "apply_rope_pos_ids"
    arrays = arrays_of(q)
    q_result = arrays.empty(q.shape, arrays.dtype(q), q) if q_out is None else q_out
    k_result = arrays.empty(k.shape, arrays.dtype(k), k) if k_out is None else k_out
    if rotary_dim is not None and rotary_dim <= 0:
        raise ValueError(f"{op}: rotary_dim: got {rotary_dim}, expected an even number above 0")
    scaling = Llama31Rope() if llama31 is None else llama31
    stream = stream_of(q, stream)
    _apply_rope_pos_ids(
        export(q),
        export(k),
        export(pos_ids),
        export_output(q_result, op, "q_out"),
        export_output(k_result, op, "k_out"),
        rotary_dim or 0,
        interleave,
        rope_scale,
        rope_theta,
        llama31 is not None,
        *scaling,
        stream,
    )
    return (
        q_result if q_out is not None else arrays.finish(q_result, stream),
        k_result if k_out is not None else arrays.finish(k_result, stream),
    )
