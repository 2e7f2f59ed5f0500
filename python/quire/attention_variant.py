"""Custom attention: a C++ snippet that transforms logits and hides tokens, compiled for the GPU."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional, Tuple

from ._arrays import dtype_name, export_tensor
from ._library import library


def _dtype_of(dtype: Any) -> str:
    return "i32" if dtype in (int, "int") else dtype_name(dtype)


@dataclasses.dataclass(frozen=True)
class AttentionVariant:
    """A user's own attention, for ``BatchAttention.plan(variant=...)``; CUDA only.

    name: a C++ identifier; compiler messages call the snippet ``variants/<name>.h``.
    source: C++ that defines::

        struct Variant {
          static float logits(const Arguments& args, const QueryRow& row, float score,
                              int kv_token);
          static bool visible(const Arguments& args, const QueryRow& row, int kv_token);
        };

    One of the two is enough. logits() returns the logit that the softmax takes; ``score`` is
    q k^T * sm_scale, after soft cap and ALiBi. visible() hides tokens beside those that causal,
    window and custom mask hide. QueryRow is {request, token, position, qo_len, kv_len, qo_head,
    kv_head} with position = kv_len - qo_len + token; ``static Row row(args, query_row)``, if there,
    is called once a row, and the others get what it returns instead.

    tensors: name to dtype ("f32", "f16", "bf16", "i32", "u8"), in the snippet ``args.<name>[i]``
    (16-bit floats: ``to_float(args.<name>[i])``); nothing checks the bounds of what it reads.
    scalars: name to dtype ("f32", "i32"), in the snippet ``args.<name>``. At most 8 of each.
    softmax=False: what logits() returns is the weight of the token's v, nothing is normalised;
    there is no lse and no sinks.
    """

    name: str
    source: str
    tensors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scalars: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    softmax: bool = True

    def _export(self) -> Any:
        return library.attention_variant(
            self.name,
            self.source,
            list(self.tensors),
            [_dtype_of(dtype) for dtype in self.tensors.values()],
            list(self.scalars),
            [_dtype_of(dtype) for dtype in self.scalars.values()],
            self.softmax,
        )


def export_arguments(
    variant: Optional[AttentionVariant], args: Optional[Mapping[str, Any]]
) -> Tuple[Optional[List[Any]], Optional[List[float]]]:
    """Tensors and scalars of a run in the order of their declaration."""
    if variant is None and not args:
        return None, None
    declared = {*variant.tensors, *variant.scalars} if variant else set()
    given = args or {}
    if given.keys() != declared:
        raise ValueError(
            f"attention.run: variant_args: got {_names(given)}, expected {_names(declared)}, as "
            + ("the planned variant declares" if variant else "the plan has no variant")
        )
    return [export_tensor(given[name]) for name in variant.tensors], [
        float(given[name]) for name in variant.scalars
    ]


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
