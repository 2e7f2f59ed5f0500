"""Options that FlashInfer's functions take and that are accepted, refused or translated here."""

from __future__ import annotations

from typing import Any, Optional

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


def scale(op: str, name: str, value: Any) -> float:
    """A scale given as a number or as a tensor of one element on the host; 1 when absent."""
    if value is None:
        return 1.0
    if hasattr(value, "shape"):
        count = 1
        for size in value.shape:
            count *= size
        if count != 1 or arrays_of(value).device(value) != "cpu":
            raise NotImplementedError(
                f"{op}: {name}: got a tensor of {count} elements on "
                f"{arrays_of(value).device(value)}, expected a number: scales per head or on a "
                "device are not implemented"
            )
        return float(value.reshape(-1)[0])
    return float(value)


def softmax_scale(
    op: str, sm_scale: Optional[float], head_dim: int, q_scale: Any, k_scale: Any
) -> float:
    """What logits are multiplied by: sm_scale (1 / sqrt(head_dim) unless given) and both scales."""
    if sm_scale is None:
        sm_scale = head_dim**-0.5
    return sm_scale * scale(op, "q_scale", q_scale) * scale(op, "k_scale", k_scale)


def split_size_tokens(fixed_split_size: Optional[int], page_size: int) -> int:
    """FlashInfer's split size (pages, None or -1 for none) in tokens, 0 for none."""
    if fixed_split_size is None or fixed_split_size <= 0:
        return 0
    return fixed_split_size * page_size
