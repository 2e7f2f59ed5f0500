"""Logit bias, penalties, temperature and grammar masks in one pass over the logits, and with the
sampler."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, per_row, stream_of
from ._library import library
from .sampling import Ids, _draw, _filters

_apply = library.apply_logits_processors
_sample_processed = library.sample_processed


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
    arguments = _export_processors(
        bias_ids,
        bias_values,
        prompt_mask,
        output_counts,
        allowed_mask,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        temperature,
    )
    target = export(result) if out is None else export_output(out, op, "out")
    _apply(export(logits), target, *arguments, stream)
    return result if out is not None else arrays.finish(result, stream)


def _export_processors(
    bias_ids: Optional[Array],
    bias_values: Optional[Array],
    prompt_mask: Optional[Array],
    output_counts: Optional[Array],
    allowed_mask: Optional[Array],
    repetition_penalty: Any,
    presence_penalty: Any,
    frequency_penalty: Any,
    temperature: Any,
) -> Tuple[Any, ...]:
    """As the library takes them."""
    return (
        export(bias_ids),
        export(bias_values),
        export(prompt_mask),
        export(output_counts),
        export(allowed_mask),
        *per_row(repetition_penalty, "f32", 1.0),
        *per_row(presence_penalty, "f32", 0.0),
        *per_row(frequency_penalty, "f32", 0.0),
        *per_row(temperature, "f32", 1.0),
    )


def sample_processed(
    logits: Array,
    processed: Optional[Array] = None,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    order: str = "top_k_first",
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
    seed: Any = 0,
    offset: Any = 0,
    indices: Optional[Array] = None,
    return_valid: bool = False,
    return_log_probs: bool = False,
    stream: Optional[int] = None,
) -> Ids:
    """:func:`apply_logits_processors` but for the temperature, into processed, and then
    :func:`sample_from_logits` of that at the temperature: the same tokens.

    processed: the dtype and shape of logits, or logits itself; None: new, and dropped.
    """
    op = "sample_processed"
    arrays = arrays_of(logits)
    target = processed
    if target is None:
        target = arrays.empty(logits.shape, arrays.dtype(logits), logits)
    arguments = (
        export(target) if processed is None else export_output(processed, op, "processed"),
        *_export_processors(
            bias_ids,
            bias_values,
            prompt_mask,
            output_counts,
            allowed_mask,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            temperature,
        ),
        *_filters(top_k, top_p, min_p, order, op),
    )
    options = (seed, offset, indices, return_valid, stream, return_log_probs)
    return _draw(_sample_processed, logits, arguments, *options)
