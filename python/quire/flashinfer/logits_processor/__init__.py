"""FlashInfer's ``flashinfer.logits_processor``: pipelines from logits or probs to tokens."""

from .compiler import (
    CompileError,
    Compiler,
    FusionRule,
    LegalizationError,
    compile_pipeline,
    infer_initial_type,
    legalize_processors,
    validate_pipeline,
)
from .op import Op, ParameterizedOp
from .pipeline import LogitsPipe
from .processors import LogitsProcessor, MinP, Sample, Softmax, Temperature, TopK, TopP
from .types import TaggedTensor, TensorType

__all__ = [
    "CompileError",
    "Compiler",
    "FusionRule",
    "LegalizationError",
    "LogitsPipe",
    "LogitsProcessor",
    "MinP",
    "Op",
    "ParameterizedOp",
    "Sample",
    "Softmax",
    "TaggedTensor",
    "Temperature",
    "TensorType",
    "TopK",
    "TopP",
    "compile_pipeline",
    "infer_initial_type",
    "legalize_processors",
    "validate_pipeline",
]
