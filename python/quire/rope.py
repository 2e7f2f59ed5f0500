"""Rotary position embedding.

Options of every function: rotary_dim: even, at most head_dim (default); dims past it are copied.
interleave: pairs (2i, 2i + 1) rather than halves. rope_scale divides positions. At most one of
llama31, yarn and ntk (rope_theta grows instead of positions being divided). cos_sin_cache:
``[max_position, rotary_dim]`` f32/f16/bf16, cosines and then sines, used instead of all of these
but interleave; positions outside it are a ValueError on the CPU, such tokens do not turn on CUDA.
All raise ValueError for shapes and options, TypeError for dtypes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple

from ._arrays import Array, dtype_name, export, export_output
from ._library import library
from ._outputs import Outputs
from .append import export_rows, export_scale, is_hnd

_apply_rope = library.apply_rope
_rope_quantize_fp8 = library.rope_quantize_fp8
_rope_append_paged_kv = library.rope_append_paged_kv


class Llama31Rope(NamedTuple):
    """Llama 3.1's frequency scaling: wavelengths above ``old_context_len / low_freq_factor`` are
    divided by rope_scale, those below ``old_context_len / high_freq_factor`` kept, those between
    interpolated."""

    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    old_context_len: float = 8192.0


class YarnRope(NamedTuple):
    """YaRN (https://arxiv.org/abs/2309.00071): pairs that turn more than beta_fast times within
    original_context_len keep their frequency, those that turn less than beta_slow times are divided
    by rope_scale, those between are interpolated; q and k are multiplied by attention_factor (0:
    ``0.1 * ln(rope_scale) + 1``)."""

    original_context_len: float = 4096.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0


def _angles(
    op: str,
    rotary_dim: Optional[int] = None,
    interleave: bool = False,
    rope_scale: float = 1.0,
    rope_theta: float = 1e4,
    llama31: Optional[Llama31Rope] = None,
    yarn: Optional[YarnRope] = None,
    ntk: bool = False,
    cos_sin_cache: Optional[Array] = None,
) -> Tuple[Any, ...]:
    if rotary_dim is not None and rotary_dim <= 0:
        raise ValueError(f"{op}: rotary_dim: got {rotary_dim}, expected an even number above 0")
    numbers = {"llama31": llama31, "yarn": yarn, "ntk": () if ntk else None}
    given = [name for name, value in numbers.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{op}: got {' and '.join(given)}, expected at most one of them")
    kind = given[0] if given else ""
    values = (*(numbers[kind] if kind else ()), 0.0, 0.0, 0.0, 0.0)[:4]
    cache = export(cos_sin_cache)
    return (rotary_dim or 0, interleave, rope_scale, rope_theta, kind, *values, cache)


def apply_rope_pos_ids(
    q: Array,
    k: Array,
    pos_ids: Array,
    q_out: Optional[Array] = None,
    k_out: Optional[Array] = None,
    *,
    stream: Optional[int] = None,
    **options: Any,
) -> Tuple[Array, Array]:
    """Rotates q ``[nnz, num_qo_heads, head_dim]`` and k ``[nnz, num_kv_heads, head_dim]``.

    f32/f16/bf16, last dimension contiguous; pos_ids: i32 or i64 ``[nnz]``. Passing q and k as
    q_out and k_out works in place. options: as above. Returns (q_out, k_out).
    """
    outputs = Outputs("apply_rope_pos_ids", q, stream)
    return _rotate(outputs, q, k, (export(pos_ids), None, None), q_out, k_out, options)


def apply_rope(
    q: Array,
    k: Array,
    indptr: Array,
    offsets: Array,
    q_out: Optional[Array] = None,
    k_out: Optional[Array] = None,
    *,
    stream: Optional[int] = None,
    **options: Any,
) -> Tuple[Array, Array]:
    """The same for requests of neighbouring tokens: row ``indptr[r] + i`` is at position
    ``offsets[r] + i``. indptr ``[batch + 1]``, offsets ``[batch]``, both i32 or i64."""
    outputs = Outputs("apply_rope", q, stream)
    positions = (None, export(indptr), export(offsets))
    return _rotate(outputs, q, k, positions, q_out, k_out, options)


def _rotate(
    outputs: Outputs,
    q: Array,
    k: Array,
    positions: Tuple[Any, ...],
    q_out: Optional[Array],
    k_out: Optional[Array],
    options: dict,
) -> Tuple[Array, Array]:
    angles = _angles(outputs.op, **options)
    q_target = outputs.add("q_out", q_out, q.shape, outputs.arrays.dtype(q))
    k_target = outputs.add("k_out", k_out, k.shape, outputs.arrays.dtype(q))
    _apply_rope(export(q), export(k), *positions, q_target, k_target, *angles, outputs.stream)
    q_result, k_result = outputs.results()
    return q_result, k_result


def rope_quantize_fp8(
    q_rope: Array,
    k_rope: Array,
    q_nope: Optional[Array],
    k_nope: Optional[Array],
    pos_ids: Array,
    *,
    q_scale: float = 1.0,
    kv_scale: float = 1.0,
    dtype: Any = "f8e4m3",
    q_rope_out: Optional[Array] = None,
    k_rope_out: Optional[Array] = None,
    q_nope_out: Optional[Array] = None,
    k_nope_out: Optional[Array] = None,
    stream: Optional[int] = None,
    **options: Any,
) -> Tuple[Array, Array, Optional[Array], Optional[Array]]:
    """Turns q_rope and k_rope and converts all parts to fp8: ``value / scale``, saturating.

    q_rope ``[nnz, num_qo_heads, rope_dim]``, q_nope ``[nnz, num_qo_heads, q_nope_dim]``, k_rope
    ``[nnz, num_kv_heads, rope_dim]``, k_nope ``[nnz, num_kv_heads, k_nope_dim]``; those of k
    without the heads dimension where there is one head (MLA). The parts that do not turn may be
    None. options: as above. Returns (q_rope_out, k_rope_out, q_nope_out, k_nope_out).
    """
    outputs = Outputs("rope_quantize_fp8", q_rope, stream)
    angles = _angles(outputs.op, **options)
    name = dtype_name(dtype)
    given = {"q_rope": q_rope_out, "k_rope": k_rope_out}
    parts = {"q_rope": q_rope, "k_rope": k_rope}
    if q_nope is not None:
        given["q_nope"], parts["q_nope"] = q_nope_out, q_nope
    if k_nope is not None:
        given["k_nope"], parts["k_nope"] = k_nope_out, k_nope
    targets = {
        part: outputs.add(part + "_out", given[part], array.shape, name)
        for part, array in parts.items()
    }
    order = ("q_rope", "k_rope", "q_nope", "k_nope")
    inputs = [export(parts.get(part)) for part in order]
    _rope_quantize_fp8(
        *inputs,
        export(pos_ids),
        *(targets.get(part) for part in order),
        *angles,
        q_scale,
        kv_scale,
        outputs.stream,
    )
    written = dict(zip(parts, outputs.results()))
    return written["q_rope"], written["k_rope"], written.get("q_nope"), written.get("k_nope")


def rope_append_paged_kv(
    q_rope: Array,
    k_rope: Array,
    q_nope: Optional[Array],
    k_nope: Optional[Array],
    v: Optional[Array],
    pos_ids: Array,
    k_cache: Array,
    v_cache: Array,
    *,
    batch_indices: Optional[Array] = None,
    positions: Optional[Array] = None,
    kv_indptr: Optional[Array] = None,
    kv_indices: Optional[Array] = None,
    kv_last_page_len: Optional[Array] = None,
    slot_mapping: Optional[Array] = None,
    kv_layout: str = "NHD",
    q_scale: float = 1.0,
    k_scale: Any = 1.0,
    v_scale: Any = 1.0,
    q_dtype: Any = None,
    q_rope_out: Optional[Array] = None,
    q_nope_out: Optional[Array] = None,
    stream: Optional[int] = None,
    **options: Any,
) -> Tuple[Array, Optional[Array]]:
    """Turns q and k, and writes k and v to a paged cache. Returns (q_rope_out, q_nope_out).

    Parts of q and k as in :func:`rope_quantize_fp8`; where rows go as in
    :func:`quire.append_paged_kv`. k_cache gets k_rope and then k_nope of a head, v_cache v ``[nnz,
    num_kv_heads, v_dim]``. MLA, v None: k_cache ``[pages, page_size, k_nope_dim]`` gets k_nope,
    v_cache ``[pages, page_size, rope_dim]`` k_rope. The caches, and the result (of q_dtype), are
    each of the dtype of q or fp8, which is divided by the scales.
    """
    outputs = Outputs("rope_append_paged_kv", q_rope, stream)
    op = outputs.op
    angles = _angles(op, **options)
    name = outputs.arrays.dtype(q_rope) if q_dtype is None else dtype_name(q_dtype)
    rope_target = outputs.add("q_rope_out", q_rope_out, q_rope.shape, name)
    nope_target = None
    if q_nope is not None:
        nope_target = outputs.add("q_nope_out", q_nope_out, q_nope.shape, name)
    table = (batch_indices, positions, kv_indptr, kv_indices, kv_last_page_len)
    _rope_append_paged_kv(
        export(q_rope),
        export(k_rope),
        export(q_nope),
        export(k_nope),
        export(v),
        export(pos_ids),
        rope_target,
        nope_target,
        export_output(k_cache, op, "k_cache"),
        export_output(v_cache, op, "v_cache"),
        is_hnd(kv_layout, op),
        *export_rows(op, slot_mapping, table),
        *angles,
        q_scale,
        *export_scale(k_scale),
        *export_scale(v_scale),
        outputs.stream,
    )
    results = outputs.results()
    return results[0], results[1] if q_nope is not None else None
