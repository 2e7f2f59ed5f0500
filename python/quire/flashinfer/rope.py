"""FlashInfer's ``flashinfer.rope``.

q ``[nnz, num_qo_heads, head_dim]``, k ``[nnz, num_kv_heads, head_dim]``; positions int32 or int64,
``pos_ids`` ``[nnz]`` or ``indptr`` ``[batch + 1]`` and ``offsets`` ``[batch]`` of requests of
neighbouring tokens; ``interleave=False`` rotates halves. Raises ValueError, TypeError.
"""

from __future__ import annotations

from typing import Optional, Tuple

from .. import rope as _rope
from .._arrays import Array
from ..rope import Llama31Rope
from ._rope_fp8 import mla_rope_quantize_fp8 as mla_rope_quantize_fp8
from ._rope_fp8 import rope_quantize_fp8 as rope_quantize_fp8
from ._rope_fp8 import (
    rope_quantize_fp8_append_paged_kv_cache as rope_quantize_fp8_append_paged_kv_cache,
)


def apply_rope(
    q: Array,
    k: Array,
    indptr: Array,
    offsets: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1,
    rope_theta: float = 1e4,
) -> Tuple[Array, Array]:
    """Rotated copies of q and k."""
    return _rope.apply_rope(
        q,
        k,
        indptr,
        offsets,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
    )


def apply_rope_inplace(
    q: Array,
    k: Array,
    indptr: Array,
    offsets: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1,
    rope_theta: float = 1e4,
) -> None:
    """Rotates q and k themselves."""
    _rope.apply_rope(
        q,
        k,
        indptr,
        offsets,
        q,
        k,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
    )


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
    return _rope.apply_rope_pos_ids(
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
    _rope.apply_rope_pos_ids(
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


def apply_llama31_rope(
    q: Array,
    k: Array,
    indptr: Array,
    offsets: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 8,
    rope_theta: float = 5e5,
    low_freq_factor: float = 1,
    high_freq_factor: float = 4,
    old_context_len: int = 8192,
) -> Tuple[Array, Array]:
    """Rotated copies of q and k with Llama 3.1's frequency scaling."""
    return _rope.apply_rope(
        q,
        k,
        indptr,
        offsets,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        llama31=Llama31Rope(low_freq_factor, high_freq_factor, old_context_len),
    )


def apply_llama31_rope_inplace(
    q: Array,
    k: Array,
    indptr: Array,
    offsets: Array,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 8,
    rope_theta: float = 5e5,
    low_freq_factor: float = 1,
    high_freq_factor: float = 4,
    old_context_len: int = 8192,
) -> None:
    """Rotates q and k themselves with Llama 3.1's frequency scaling."""
    _rope.apply_rope(
        q,
        k,
        indptr,
        offsets,
        q,
        k,
        rotary_dim=rotary_dim,
        interleave=interleave,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        llama31=Llama31Rope(low_freq_factor, high_freq_factor, old_context_len),
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
    return _rope.apply_rope_pos_ids(
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
    _rope.apply_rope_pos_ids(
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


def apply_rope_with_cos_sin_cache(
    positions: Array,
    query: Array,
    key: Array,
    head_size: int,
    cos_sin_cache: Array,
    is_neox: bool = True,
) -> Tuple[Array, Array]:
    """Rotated copies of query and key ``[nnz, heads * head_size]`` by ``cos_sin_cache``
    ``[max_position, rotary_dim]``, cosines and then sines; unlike FlashInfer also float16 and
    bfloat16."""
    q, k = _with_heads(query, head_size), _with_heads(key, head_size)
    options = {"interleave": not is_neox, "cos_sin_cache": cos_sin_cache}
    q_out, k_out = _rope.apply_rope_pos_ids(q, k, positions, **options)
    return q_out.reshape(query.shape), k_out.reshape(key.shape)


def apply_rope_with_cos_sin_cache_inplace(
    positions: Array,
    query: Array,
    key: Array,
    head_size: int,
    cos_sin_cache: Array,
    is_neox: bool = True,
) -> None:
    """The same on query and key themselves, which must be viewable as ``[nnz, heads,
    head_size]``."""
    q, k = (x.view(x.shape[0], -1, head_size) for x in (query, key))
    options = {"interleave": not is_neox, "cos_sin_cache": cos_sin_cache}
    _rope.apply_rope_pos_ids(q, k, positions, q, k, **options)


def _with_heads(x: Array, head_size: int) -> Array:
    return x.reshape(x.shape[0], -1, head_size)
