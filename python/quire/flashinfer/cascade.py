"""FlashInfer's ``flashinfer.cascade``: merging attention states. Logarithms are to base 2."""

from __future__ import annotations

from typing import Optional, Tuple

from .. import merge as _merge
from .._arrays import Array, arrays_of


def merge_state(v_a: Array, s_a: Array, v_b: Array, s_b: Array) -> Tuple[Array, Array]:
    """The state of the union of two disjoint KV sets: v ``[n, heads, head_dim]``, s float32
    ``[n, heads]``. Unlike FlashInfer, two empty states give (0, -inf), not NaN."""
    return _merge.merge_state(v_a, _float32(s_a), v_b, _float32(s_b), lse_base=2)


def merge_state_in_place(
    v: Array, s: Array, v_other: Array, s_other: Array, mask: Optional[Array] = None
) -> None:
    """Updates (v, s) with (v_other, s_other) where mask ``[n]`` (uint8 or bool) is not 0.

    s must be float32: unlike FlashInfer, another dtype is a TypeError and not a lost update.
    """
    _merge.merge_state_in_place(v, s, v_other, _float32(s_other), mask, lse_base=2)


def merge_states(v: Array, s: Array) -> Tuple[Array, Array]:
    """Merges v ``[n, states, heads, head_dim]`` and s ``[n, states, heads]`` over the states."""
    return _merge.merge_states(v, _float32(s), lse_base=2)


def _float32(s: Array) -> Array:
    arrays = arrays_of(s)
    return arrays.contiguous(arrays.cast(s, "f32"))
