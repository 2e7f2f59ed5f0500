"""What flows through a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class TensorType(Enum):
    """What a tensor means."""

    LOGITS = auto()
    PROBS = auto()
    INDICES = auto()


@dataclass(frozen=True)
class TaggedTensor:
    """An array and what it means."""

    data: Any
    type: TensorType

    @staticmethod
    def logits(t: Any) -> TaggedTensor:
        return TaggedTensor(t, TensorType.LOGITS)

    @staticmethod
    def probs(t: Any) -> TaggedTensor:
        return TaggedTensor(t, TensorType.PROBS)

    @staticmethod
    def indices(t: Any) -> TaggedTensor:
        return TaggedTensor(t, TensorType.INDICES)
