"""Operators: what processors become when the type of their input is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Dict, List, Optional

from ... import logits_processors as _logits_processors
from ... import sampling as _sampling
from .. import sampling as _fi
from .types import TaggedTensor, TensorType


class Op(ABC):
    """IN and OUT: the types of what it takes and gives."""

    IN: ClassVar[Optional[TensorType]] = None
    OUT: ClassVar[Optional[TensorType]] = None

    def __init__(self) -> None:
        if self.IN is None or self.OUT is None:
            raise ValueError(f"{type(self).__name__}: IN, OUT: got None, expected tensor types")

    @abstractmethod
    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        raise NotImplementedError

    def _validate_input_type(self, tensor: TaggedTensor) -> TensorType:
        if tensor.type != self.IN:
            got = f"got {tensor.type}, expected {self.IN}"
            raise ValueError(f"{type(self).__name__}: input: {got}")
        return self.OUT

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.IN} -> {self.OUT})"


class ParameterizedOp(Op):
    """An operator with parameters: those of the call, or those it was made with."""

    def __init__(self, **default_params: Any) -> None:
        super().__init__()
        self.default_params = default_params

    def _get_param(self, name: str, kwargs: Dict[str, Any], required: bool = True) -> Any:
        value = kwargs.get(name, self.default_params.get(name))
        if value is None and required:
            raise ValueError(f"{type(self).__name__}: {name}: got nothing, expected a value")
        return value


def positive_temperature(value: Any) -> Any:
    """A number must be above 0; the elements of a tensor are the caller's business."""
    if not hasattr(value, "shape") and not float(value) > 0:
        raise ValueError(f"Temperature: temperature: got {value}, expected a number above 0")
    return value


class TemperatureOp(ParameterizedOp):
    IN, OUT = TensorType.LOGITS, TensorType.LOGITS

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        temperature = positive_temperature(self._get_param("temperature", kwargs))
        scaled = _logits_processors.apply_logits_processors(tensor.data, temperature=temperature)
        return TaggedTensor.logits(scaled)


class LogitsTopKOp(ParameterizedOp):
    IN, OUT = TensorType.LOGITS, TensorType.LOGITS

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        top_k = self._get_param("top_k", kwargs)
        return TaggedTensor.logits(_sampling.top_k_mask_logits(tensor.data, top_k))


class SoftmaxOp(ParameterizedOp):
    IN, OUT = TensorType.LOGITS, TensorType.PROBS

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        return TaggedTensor.probs(_sampling.softmax(tensor.data))


class ProbsFilterOp(ParameterizedOp):
    """Keeps tokens and renormalises; PARAMETER is both its name here and in renorm_probs."""

    IN, OUT = TensorType.PROBS, TensorType.PROBS
    PARAMETER: ClassVar[str] = ""

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        filters = {self.PARAMETER: self._get_param(self.PARAMETER, kwargs)}
        return TaggedTensor.probs(_sampling.renorm_probs(tensor.data, **filters))


class ProbsTopKOp(ProbsFilterOp):
    PARAMETER = "top_k"


class TopPOp(ProbsFilterOp):
    PARAMETER = "top_p"


class MinPOp(ProbsFilterOp):
    PARAMETER = "min_p"


class SampleOp(ParameterizedOp):
    """Draws; takes indices, generator, seed, offset and check_nan."""

    def _options(self, kwargs: Dict[str, Any]) -> Dict[str, Any]:
        names = ("indices", "generator", "seed", "offset")
        options = {name: self._get_param(name, kwargs, required=False) for name in names}
        check_nan = self._get_param("check_nan", kwargs, required=False)
        return {**options, "check_nan": bool(check_nan)}


class LogitsSampleOp(SampleOp):
    IN, OUT = TensorType.LOGITS, TensorType.INDICES

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        return TaggedTensor.indices(_fi.sampling_from_logits(tensor.data, **self._options(kwargs)))


class ProbsSampleOp(SampleOp):
    IN, OUT = TensorType.PROBS, TensorType.INDICES

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        return TaggedTensor.indices(_fi.sampling_from_probs(tensor.data, **self._options(kwargs)))


class FusedOp(SampleOp):
    """Several operators as one pass: a softmax with temperature, filters that renormalise once, or
    everything up to the sample."""

    IN, OUT = TensorType.LOGITS, TensorType.INDICES

    def __init__(self, ops: List[Op], order: str) -> None:
        self.IN, self.OUT = ops[0].IN, ops[-1].OUT
        super().__init__(**ops[-1].default_params)
        self.ops, self.order = ops, order

    def __call__(self, tensor: TaggedTensor, **kwargs: Any) -> TaggedTensor:
        self._validate_input_type(tensor)
        filters: Dict[str, Any] = {}
        temperature = 1.0
        for op in self.ops:
            if isinstance(op, TemperatureOp):
                temperature = positive_temperature(op._get_param("temperature", kwargs))
            elif isinstance(op, LogitsTopKOp):
                filters["top_k"] = op._get_param("top_k", kwargs)
            elif isinstance(op, ProbsFilterOp):
                filters[op.PARAMETER] = op._get_param(op.PARAMETER, kwargs)
        if self.OUT == TensorType.INDICES:
            draw = _fi.draw_from_logits if self.IN == TensorType.LOGITS else _fi.draw_from_probs
            extra = {"temperature": temperature} if self.IN == TensorType.LOGITS else {}
            filters = {"order": self.order, **filters, **extra}
            return TaggedTensor.indices(draw(tensor.data, filters, **self._options(kwargs)))
        if self.IN == TensorType.LOGITS:
            return TaggedTensor.probs(_sampling.softmax(tensor.data, temperature))
        filtered = _sampling.renorm_probs(tensor.data, order=self.order, **filters)
        return TaggedTensor.probs(filtered)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' + '.join(type(op).__name__ for op in self.ops)})"
