"""The pipeline."""

from __future__ import annotations

from typing import Any, List, Optional

from .compiler import (
    CompileError,
    FusionRule,
    LegalizationError,
    ValidityCheck,
    compile_pipeline,
    infer_initial_type,
    legalize_processors,
)
from .op import Op
from .processors import LogitsProcessor
from .types import TaggedTensor, TensorType


class LogitsPipe:
    """Processors applied one after another, in as few passes over the rows as their meaning allows:
    everything from logits to tokens is one call, unless a TopP follows a MinP.

    compile=False runs the operators one by one. input_type: what the first tensor is, where the
    first processor takes logits and probabilities. Run-time parameters (temperature, top_k, top_p,
    min_p, indices, generator, seed, offset) are keywords of the call. ValueError for processors
    that do not fit together and for parameters that are missing.
    """

    def __init__(
        self,
        processors: List[LogitsProcessor],
        compile: bool = True,
        input_type: Optional[TensorType] = None,
        custom_fusion_rules: Optional[List[FusionRule]] = None,
        custom_validity_checks: Optional[List[ValidityCheck]] = None,
    ) -> None:
        if not processors:
            raise ValueError("LogitsPipe: processors: got none, expected at least one")
        self.processors = list(processors)
        try:
            self._initial_type = input_type or infer_initial_type(self.processors)
            self.ops: List[Op] = legalize_processors(self.processors, self._initial_type)
        except LegalizationError as error:
            raise ValueError(f"LogitsPipe: {error}") from error
        self.compiled_ops: Optional[List[Op]] = None
        if compile:
            self.compile(custom_fusion_rules, custom_validity_checks)

    @property
    def initial_type(self) -> TensorType:
        """Of the tensor that a call takes."""
        return self._initial_type

    def compile(
        self,
        custom_fusion_rules: Optional[List[FusionRule]] = None,
        custom_validity_checks: Optional[List[ValidityCheck]] = None,
    ) -> None:
        """Checks and joins the operators."""
        try:
            self.compiled_ops = compile_pipeline(
                self.ops, custom_fusion_rules, custom_validity_checks
            )
        except CompileError as error:
            raise ValueError(f"LogitsPipe: {error}") from error

    def __call__(self, x: Any, **kwargs: Any) -> Any:
        """The array that the last processor gives for x, an array or a TaggedTensor."""
        tensor = x if isinstance(x, TaggedTensor) else TaggedTensor(x, self._initial_type)
        for op in self.ops if self.compiled_ops is None else self.compiled_ops:
            tensor = op(tensor, **kwargs)
        return tensor.data

    def __repr__(self) -> str:
        ops = self.ops if self.compiled_ops is None else self.compiled_ops
        processors = " -> ".join(map(repr, self.processors))
        return f"LogitsPipe([{processors}], ops=[{' -> '.join(map(repr, ops))}])"
