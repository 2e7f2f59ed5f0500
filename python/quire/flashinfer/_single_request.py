"""FlashInfer's attention of one request, planned and run in one call."""

from __future__ import annotations

import collections
import functools
import threading
from typing import Any, Optional, Tuple, Union

import numpy as np

from .._arrays import Array, arrays_of, dtype_name
from ..attention import BatchAttention
from . import _options
from ._masks import pack_custom_mask

# Engines are kept because making one allocates. A thread has its own, one a device and stream, as
# concurrent runs must not share one; the least recently used go first.
_kept = threading.local()
_MAX_KEPT = 8


def _engine_of(q: Array) -> BatchAttention:
    arrays = arrays_of(q)
    key = (arrays.device(q), arrays.stream(q))
    if not hasattr(_kept, "engines"):
        _kept.engines = collections.OrderedDict()
    engine = _kept.engines.pop(key, None) or BatchAttention(key[0])
    _kept.engines[key] = engine
    if len(_kept.engines) > _MAX_KEPT:
        _kept.engines.popitem(last=False)
    return engine


def _attend(
    op: str,
    q: Array,
    k: Array,
    v: Array,
    kv_layout: str,
    o_dtype: Optional[str] = None,
    **options: Any,
) -> Tuple[Array, Array]:
    """(out, lse) of q ``[qo_len, num_qo_heads, head_dim]``; lse to base 2.

    `options` are those of BatchAttention.run.
    """
    _options.check_kv_layout(op, kv_layout)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if len(tensor.shape) != 3:
            raise ValueError(f"{op}: {name}: got rank {len(tensor.shape)}, expected 3")
    length, heads = (0, 1) if kv_layout == "NHD" else (1, 0)
    q_dtype = arrays_of(q).dtype(q)
    engine = _engine_of(q)
    engine.plan(
        [0, q.shape[0]],
        [0, k.shape[length]],
        num_qo_heads=q.shape[1],
        num_kv_heads=k.shape[heads],
        head_dim_qk=q.shape[2],
        head_dim_vo=v.shape[2],
        kv_layout=kv_layout,
        q_dtype=q_dtype,
        kv_dtype=arrays_of(k).dtype(k),
        o_dtype=o_dtype or q_dtype,
        causal=options.get("causal", False),
        window_left=options.get("window_left", -1),
    )
    return engine.run(q, k, v, return_lse=True, lse_base=2, **options)


def single_decode_with_kv_cache(
    q: Array,
    k: Array,
    v: Array,
    kv_layout: str = "NHD",
    pos_encoding_mode: str = "NONE",
    use_tensor_cores: bool = False,
    q_scale: Optional[float] = None,
    k_scale: Optional[float] = None,
    v_scale: Optional[float] = None,
    window_left: int = -1,
    logits_soft_cap: Optional[float] = None,
    sm_scale: Optional[float] = None,
    rope_scale: Optional[float] = None,
    rope_theta: Optional[float] = None,
    return_lse: bool = False,
) -> Union[Array, Tuple[Array, Array]]:
    """Attention of one query q ``[num_qo_heads, head_dim]`` over k, v ``[kv_len, num_kv_heads,
    head_dim]`` (HND: heads first). Returns out ``[num_qo_heads, head_dim]`` or, with return_lse,
    (out, lse ``[num_qo_heads]``, base 2). use_tensor_cores has no effect.
    """
    op = "single_decode_with_kv_cache"
    _options.check_pos_encoding_mode(op, pos_encoding_mode)
    if len(q.shape) != 2:
        raise ValueError(f"{op}: q: got rank {len(q.shape)}, expected [num_qo_heads, head_dim]")
    out, lse = _attend(
        op,
        q[None],
        k,
        v,
        kv_layout,
        window_left=window_left,
        logits_soft_cap=logits_soft_cap or 0.0,
        sm_scale=sm_scale,
        **_options.scales(op, kv_layout, q, k, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale),
    )
    return (out[0], lse[0]) if return_lse else out[0]


def single_prefill_with_kv_cache(
    q: Array,
    k: Array,
    v: Array,
    scale_q: Optional[Array] = None,
    scale_k: Optional[Array] = None,
    scale_v: Optional[Array] = None,
    o_dtype: Any = None,
    custom_mask: Optional[Array] = None,
    packed_custom_mask: Optional[Array] = None,
    causal: bool = False,
    kv_layout: str = "NHD",
    pos_encoding_mode: str = "NONE",
    use_fp16_qk_reduction: bool = False,
    sm_scale: Optional[float] = None,
    window_left: int = -1,
    logits_soft_cap: Optional[float] = None,
    rope_scale: Optional[float] = None,
    rope_theta: Optional[float] = None,
    backend: str = "auto",
    return_lse: bool = False,
    kv_cache_sf: Any = None,
    k_scale: Optional[float] = None,
    v_scale: Optional[float] = None,
) -> Union[Array, Tuple[Array, Array]]:
    """Attention of q ``[qo_len, num_qo_heads, head_dim_qk]`` over k ``[kv_len, num_kv_heads,
    head_dim_qk]`` and v ``[kv_len, num_kv_heads, head_dim_vo]`` (HND: heads first).

    causal is aligned to the end; custom_mask: bool ``[qo_len, kv_len]`` and packed_custom_mask: its
    bits, little-endian, replace causal. Returns out or, with return_lse, (out, lse ``[qo_len,
    num_qo_heads]`` to base 2). scale_q, scale_k, scale_v: of an fp8 q, k and v, a number or one
    float32 a head; k_scale and v_scale are the same two under other names. use_fp16_qk_reduction
    has no effect: sums are in f32. kv_cache_sf and pos_encoding_mode are NotImplementedError.
    """
    op = "single_prefill_with_kv_cache"
    _options.refuse(op, kv_cache_sf=kv_cache_sf)
    scales = {
        "q_scale": scale_q,
        "k_scale": _options.only_one(op, scale_k=scale_k, k_scale=k_scale),
        "v_scale": _options.only_one(op, scale_v=scale_v, v_scale=v_scale),
    }
    _options.check_pos_encoding_mode(op, pos_encoding_mode)
    _options.check_backend(op, backend)
    _options.check_kv_layout(op, kv_layout)
    kv_len = k.shape[0 if kv_layout == "NHD" else 1]
    num_bits = np.array([q.shape[0] * kv_len])
    mask, mask_indptr = pack_custom_mask(op, custom_mask, packed_custom_mask, num_bits, q)
    out, lse = _attend(
        op,
        q,
        k,
        v,
        kv_layout,
        None if o_dtype is None else dtype_name(o_dtype),
        causal=causal and mask is None,
        window_left=window_left,
        logits_soft_cap=logits_soft_cap or 0.0,
        sm_scale=sm_scale,
        custom_mask=mask,
        mask_indptr=mask_indptr,
        **_options.scales(op, kv_layout, q, k, **scales),
    )
    return (out, lse) if return_lse else out


single_prefill_with_kv_cache_return_lse = functools.partial(
    single_prefill_with_kv_cache, return_lse=True
)
