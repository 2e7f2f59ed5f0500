"""Processors: what a user strings together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, List, Optional

from . import op as _op
from .types import TensorType


class LogitsProcessor(ABC):
    """params: those that a call of the pipeline does not give."""

    def __init__(self, **params: Any) -> None:
        self.params = params

    @abstractmethod
    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        """The operators for an input of this type; ValueError when there are none."""
        raise NotImplementedError

    def _refuse(self, input_type: TensorType, expected: str) -> ValueError:
        return ValueError(f"{type(self).__name__}: input: got {input_type}, expected {expected}")

    def __repr__(self) -> str:
        params = ", ".join(f"{key}={value}" for key, value in self.params.items())
        return f"{type(self).__name__}({params})"


class Temperature(LogitsProcessor):
    """Divides logits by ``temperature``."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type != TensorType.LOGITS:
            raise self._refuse(input_type, "logits")
        return [_op.TemperatureOp(**self.params)]


class Softmax(LogitsProcessor):
    """Logits to probabilities."""

    def __init__(self, enable_pdl: Optional[bool] = None, **params: Any) -> None:
        super().__init__(**params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type != TensorType.LOGITS:
            raise self._refuse(input_type, "logits")
        return [_op.SoftmaxOp(**self.params)]


class TopK(LogitsProcessor):
    """Keeps the ``top_k`` largest: masks logits, renormalises probabilities. joint_topk_topp: a
    TopP that follows counts mass in the whole distribution."""

    def __init__(self, joint_topk_topp: bool = False, **params: Any) -> None:
        super().__init__(joint_topk_topp=joint_topk_topp, **params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type == TensorType.LOGITS:
            return [_op.LogitsTopKOp(**self.params)]
        if input_type == TensorType.PROBS:
            return [_op.ProbsTopKOp(**self.params)]
        raise self._refuse(input_type, "logits or probabilities")


class TopP(LogitsProcessor):
    """Keeps the smallest set of most probable tokens with mass >= ``top_p``, renormalised."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type != TensorType.PROBS:
            raise self._refuse(input_type, "probabilities")
        return [_op.TopPOp(**self.params)]


class MinP(LogitsProcessor):
    """Keeps tokens with probability >= ``min_p`` times the largest one, renormalised."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type != TensorType.PROBS:
            raise self._refuse(input_type, "probabilities")
        return [_op.MinPOp(**self.params)]


class Sample(LogitsProcessor):
    """Draws tokens; a call may give indices, generator, seed and offset."""

    def __init__(self, deterministic: bool = True, **params: Any) -> None:
        super().__init__(deterministic=deterministic, **params)

    def legalize(self, input_type: TensorType) -> List[_op.Op]:
        if input_type == TensorType.LOGITS:
            return [_op.LogitsSampleOp(**self.params)]
        if input_type == TensorType.PROBS:
            return [_op.ProbsSampleOp(**self.params)]
        raise self._refuse(input_type, "logits or probabilities")
