"""Logit bias, penalties, temperature and grammar masks in one pass over the logits."""

from __future__ import annotations

from typing import Any, Optional

from ._arrays import Array, arrays_of, export, export_output, per_row, stream_of
from ._library import library

_apply = library.apply_logits_processors


def apply_logits_processors(
    logits: Array,
    *,
    bias_ids: Optional[Array] = None,
    bias_values: Optional[Array] = None,
    prompt_mask: Optional[Array] = None,
    output_counts: Optional[Array] = None,
    repetition_penalty: Any = 1.0,
    presence_penalty: Any = 0.0,
    frequency_penalty: Any = 0.0,
    temperature: Any = 1.0,
    allowed_mask: Optional[Array] = None,
    out: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Array:
    """What engines do to logits ``[n, vocab]`` (f32/f16/bf16) before they sample, in this order.

    1. Add bias_values f32 ``[n, m]`` to the tokens bias_ids i32 ``[n, m]``; -1 is skipped.
    2. Tokens seen (bit t % 32 of word t // 32 of prompt_mask i32 ``[n, words]``, or a positive
       output_counts i32 ``[n, vocab]``): divide positive logits by repetition_penalty, multiply
       others by it.
    3. Subtract frequency_penalty * count, and presence_penalty where count > 0.
    4. Divide by temperature; 0 changes nothing.
    5. -inf for tokens whose bit in allowed_mask i32 ``[n, words]`` is 0, as xgrammar packs them.

    Penalties and temperature: a float or f32 ``[n]``. out: the dtype of logits, or logits itself.
    """
    arrays = arrays_of(logits)
    result = arrays.empty(logits.shape, arrays.dtype(logits), logits) if out is None else out
    stream = stream_of(logits, stream)
    op = "apply_logits_processors"
    _apply(
        export(logits),
        export(result) if out is None else export_output(out, op, "out"),
        export(bias_ids),
        export(bias_values),
        export(prompt_mask),
        export(output_counts),
        export(allowed_mask),
        *per_row(repetition_penalty, "f32", 1.0),
        *per_row(presence_penalty, "f32", 0.0),
        *per_row(frequency_penalty, "f32", 0.0),
        *per_row(temperature, "f32", 1.0),
        stream,
    )
    return result if out is not None else arrays.finish(result, stream)
