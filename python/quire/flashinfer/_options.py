"""Options that FlashInfer's functions take and that are accepted, refused or translated here."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

from .._arrays import arrays_of

# Names of FlashInfer's kernel families whose arguments mean the same. There is one engine here, so
# they choose nothing.
_BACKENDS = ("auto", "fa2", "fa3", "trtllm-gen", "cute-dsl", "xqa", "fmha_v2", "cutlass")


def not_implemented(op: str, option: str, value: Any) -> NotImplementedError:
    return NotImplementedError(f"{op}: {option}: got {value!r}, which Quire does not have")


def refuse(op: str, **options: Any) -> None:
    """NotImplementedError, naming it, for every option that was given (is not None)."""
    for name, value in options.items():
        if name == "jit_args" and value is not None:
            raise NotImplementedError(
                f"{op}: jit_args: got a variant's declaration, expected none: its C++ is written "
                "for FlashInfer's own headers and kernel parameters, which Quire does not have; "
                "quire.AttentionVariant does the same with quire.BatchAttention"
            )
        if value is not None:
            raise not_implemented(op, name, "a value" if hasattr(value, "shape") else value)


def check_backend(op: str, backend: str) -> None:
    if backend == "cudnn":  # its index arrays count elements, not tokens
        raise not_implemented(op, "backend", backend)
    if backend not in _BACKENDS:
        raise ValueError(f"{op}: backend: got {backend!r}, expected one of {', '.join(_BACKENDS)}")


def check_kv_layout(op: str, kv_layout: str) -> None:
    if kv_layout not in ("NHD", "HND"):
        raise ValueError(f"{op}: kv_layout: got {kv_layout!r}, expected 'NHD' or 'HND'")


def check_pos_encoding_mode(op: str, mode: str) -> None:
    if mode in ("ROPE_LLAMA", "ALIBI"):
        raise not_implemented(op, "pos_encoding_mode", mode)
    if mode != "NONE":
        raise ValueError(f"{op}: pos_encoding_mode: got {mode!r}, expected 'NONE'")


def scales(op: str, kv_layout: str, q: Any, k: Any, **values: Any) -> Dict[str, Any]:
    """q_scale, k_scale and v_scale as options of :meth:`quire.BatchAttention.run`.

    A number, or a tensor of one element on the host, scales a whole tensor; a tensor with an
    element a head scales heads, and one element on a device is repeated for all of them.
    """
    num_kv_heads = k.shape[-2 if kv_layout == "NHD" else -3]
    options: Dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        if not hasattr(value, "shape"):
            options[name] = float(value)
            continue
        arrays = arrays_of(value)
        num_elements = math.prod(value.shape)
        if num_elements == 1 and arrays.device(value) == "cpu":
            options[name] = float(value.reshape(-1)[0])
            continue
        num_heads = q.shape[-2] if name == "q_scale" else num_kv_heads
        if num_elements not in (1, num_heads):
            raise ValueError(
                f"{op}: {name}: got {num_elements} elements, expected 1 or {num_heads}, the heads"
            )
        heads = arrays.cast(value.reshape(-1), "f32")
        repeats = num_elements == 1 and num_heads > 1
        options[name + "s"] = (
            arrays.repeat(heads, num_heads) if repeats else arrays.contiguous(heads)
        )
    return options


def only_one(op: str, **values: Any) -> Any:
    """The value among two names of the same thing, or None."""
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{op}: got both {' and '.join(given)}, expected one of them")
    return next(iter(given.values()), None)


def positional_scales(op: str, args: Tuple[Any, ...], q: Any, **scales: Any) -> Dict[str, Any]:
    """The scales of a run; FlashInfer takes those of an fp8 q also by position, after k and v."""
    if not args:
        return scales
    if len(args) != len(scales) or arrays_of(q).dtype(q) not in ("f8e4m3", "f8e5m2"):
        refuse(op, jit_args=args)
    for name, value in scales.items():
        if value is not None:
            raise TypeError(f"{op}: {name}: got it by position and by name")
    return dict(zip(scales, args))


def split_size_tokens(fixed_split_size: Optional[int], page_size: int) -> int:
    """FlashInfer's split size (pages, None or -1 for none) in tokens, 0 for none."""
    if fixed_split_size is None or fixed_split_size <= 0:
        return 0
    return fixed_split_size * page_size
