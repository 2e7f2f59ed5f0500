"""Merging attention states (v, lse) of disjoint KV sets."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of
from ._library import library

_merge_state = library.merge_state
_merge_state_in_place = library.merge_state_in_place
_merge_states = library.merge_states


def is_base_2(lse_base: Any, op: str) -> bool:
    """True for 2, False for "e", ValueError otherwise."""
    if lse_base not in (2, "2", "e"):
        raise ValueError(f"{op}: lse_base: got {lse_base!r}, expected 2 or 'e'")
    return lse_base != "e"


def merge_state(
    v_a: Array,
    s_a: Array,
    v_b: Array,
    s_b: Array,
    *,
    lse_base: Any = "e",
    stream: Optional[int] = None,
) -> Tuple[Array, Array]:
    """The state of the union of two disjoint KV sets.

    v_a, v_b: ``[n, heads, head_dim]`` f32/f16/bf16, the result of the dtype of v_a; s_a, s_b: f32
    ``[n, heads]``, logarithms to ``lse_base`` (2 or "e"). Two empty states give (0, -inf).
    """
    arrays = arrays_of(v_a)
    v = arrays.empty(v_a.shape, arrays.dtype(v_a), v_a)
    s = arrays.empty(v_a.shape[:2], "f32", v_a)
    stream = stream_of(v_a, stream)
    base_2 = is_base_2(lse_base, "merge_state")
    inputs = (export(v_a), export(s_a), export(v_b), export(s_b))
    _merge_state(*inputs, export(v), export(s), base_2, stream)
    return arrays.finish(v, stream), arrays.finish(s, stream)


def merge_state_in_place(
    v: Array,
    s: Array,
    v_other: Array,
    s_other: Array,
    mask: Optional[Array] = None,
    *,
    lse_base: Any = "e",
    stream: Optional[int] = None,
) -> None:
    """Updates (v, s) with (v_other, s_other); rows with ``mask[n] == 0`` stay as they are.

    Shapes as in :func:`merge_state`; mask: u8 or bool ``[n]``. TypeError for arrays that cannot be
    written (JAX).
    """
    op = "merge_state_in_place"
    _merge_state_in_place(
        export_output(v, op, "v"),
        export_output(s, op, "s"),
        export(v_other),
        export(s_other),
        export(mask),
        is_base_2(lse_base, op),
        stream_of(v, stream),
    )


def merge_states(
    v: Array, s: Array, *, lse_base: Any = "e", stream: Optional[int] = None
) -> Tuple[Array, Array]:
    """Merges ``num_states`` states a row.

    v: ``[n, num_states, heads, head_dim]``; s: f32 ``[n, num_states, heads]``. Returns
    ``[n, heads, head_dim]`` and ``[n, heads]``.
    """
    if len(v.shape) != 4:
        got = f"rank {len(v.shape)}"
        raise ValueError(f"merge_states: v: got {got}, expected [n, states, heads, head_dim]")
    arrays = arrays_of(v)
    v_out = arrays.empty((v.shape[0], v.shape[2], v.shape[3]), arrays.dtype(v), v)
    s_out = arrays.empty((v.shape[0], v.shape[2]), "f32", v)
    stream = stream_of(v, stream)
    base_2 = is_base_2(lse_base, "merge_states")
    _merge_states(export(v), export(s), export(v_out), export(s_out), base_2, stream)
    return arrays.finish(v_out, stream), arrays.finish(s_out, stream)
