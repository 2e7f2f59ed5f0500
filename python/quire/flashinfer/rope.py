"""FlashInfer's ``flashinfer.rope``: rotary embedding by position ids.

q ``[nnz, num_qo_heads, head_dim]``, k ``[nnz, num_kv_heads, head_dim]``, pos_ids int32 or int64
``[nnz]``; ``interleave=False`` rotates halves. Raises ValueError, TypeError.
"""

from __future__ import annotations

from typing import Optional, Tuple

from .._arrays import Array
from ..rope import Llama31Rope
from ..rope import apply_rope_pos_ids as _apply


def apply_rope_pos_ids(
    q: Array,
    k: Array,
    pos_ids: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1,
    rope_theta: float = 1e4,
) -> Tuple[Array, Array]:
    """Rotated copies of q and k."""
    return _apply(
        q,
        k,
        pos_ids,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
    )


def apply_rope_pos_ids_inplace(
    q: Array,
    k: Array,
    pos_ids: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1,
    rope_theta: float = 1e4,
) -> None:
    """Rotates q and k themselves."""
    _apply(
        q,
        k,
        pos_ids,
        q,
        k,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
    )


def apply_llama31_rope_pos_ids(
    q: Array,
    k: Array,
    pos_ids: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 8,
    rope_theta: float = 5e5,
    low_freq_factor: float = 1,
    high_freq_factor: float = 4,
    old_context_len: int = 8192,
) -> Tuple[Array, Array]:
    """Rotated copies of q and k with Llama 3.1's frequency scaling."""
    return _apply(
        q,
        k,
        pos_ids,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        llama31=Llama31Rope(low_freq_factor, high_freq_factor, old_context_len),
    )


def apply_llama31_rope_pos_ids_inplace(
    q: Array,
    k: Array,
    pos_ids: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 8,
    rope_theta: float = 5e5,
    low_freq_factor: float = 1,
    high_freq_factor: float = 4,
    old_context_len: int = 8192,
) -> None:
    """Rotates q and k themselves with Llama 3.1's frequency scaling."""
    _apply(
        q,
        k,
        pos_ids,
        q,
        k,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        llama31=Llama31Rope(low_freq_factor, high_freq_factor, old_context_len),
    )
