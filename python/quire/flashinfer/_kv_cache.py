"""The forms of a paged KV-cache that FlashInfer takes."""

from __future__ import annotations

from typing import Any, Tuple

from .._arrays import Array


def split_paged_kv_cache(op: str, paged_kv_cache: Any, kv_layout: str) -> Tuple[Array, Array]:
    """(k, v) pools of four dimensions, views of what was given.

    A tuple of two pools, or one tensor with K and V along its second dimension. Pools without a
    page dimension (``[slots, heads, dim]``) are pages of one token.
    """
    if isinstance(paged_kv_cache, (tuple, list)):
        if len(paged_kv_cache) != 2:
            got = f"{len(paged_kv_cache)} tensors"
            raise ValueError(f"{op}: paged_kv_cache: got {got}, expected (k_cache, v_cache)")
        k, v = paged_kv_cache
    else:
        shape = tuple(paged_kv_cache.shape)
        if len(shape) not in (4, 5) or shape[1] != 2:
            raise ValueError(
                f"{op}: paged_kv_cache: got shape {list(shape)}, expected [pages, 2, ...] with "
                "4 or 5 dimensions"
            )
        k, v = paged_kv_cache[:, 0], paged_kv_cache[:, 1]
    return _with_page_dimension(k, kv_layout), _with_page_dimension(v, kv_layout)


def _with_page_dimension(pool: Array, kv_layout: str) -> Array:
    if len(pool.shape) != 3:
        return pool
    return pool[:, None] if kv_layout == "NHD" else pool[:, :, None]
