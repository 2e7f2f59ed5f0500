"""From processors to operators, and from operators to as few passes as their meaning allows."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from . import op as _op
from .processors import LogitsProcessor
from .types import TensorType

Op = _op.Op


class CompileError(Exception):
    """Operators that do not fit together."""


class LegalizationError(Exception):
    """A processor that cannot take what comes before it."""


ValidityCheck = Callable[[List[Op]], None]


class FusionRule(NamedTuple):
    """Operators of these types, one after another, become build(them) where guard(them) holds.
    Higher prio comes first."""

    pattern: Tuple[type, ...]
    guard: Callable[[List[Op]], bool]
    build: Callable[[List[Op]], Op]
    prio: int = 0


def legalize_processors(
    processors: Sequence[LogitsProcessor], initial_type: TensorType = TensorType.LOGITS
) -> List[Op]:
    """The operators of the processors, in order. LegalizationError names the one that fails."""
    if not processors:
        raise LegalizationError("legalize_processors: processors: got none, expected at least one")
    ops: List[Op] = []
    current = initial_type
    for i, processor in enumerate(processors):
        try:
            ops.extend(processor.legalize(current))
        except ValueError as error:
            raise LegalizationError(f"processor {i}: {error}") from error
        current = ops[-1].OUT
    return ops


def infer_initial_type(processors: Sequence[LogitsProcessor]) -> TensorType:
    """The only type that the first processor takes. LegalizationError when it takes both."""
    types = []
    for candidate in (TensorType.LOGITS, TensorType.PROBS):
        try:
            processors[0].legalize(candidate)
            types.append(candidate)
        except ValueError:
            continue
    if len(types) == 1:
        return types[0]
    raise LegalizationError(
        f"LogitsPipe: input_type: got None, expected LOGITS or PROBS: {processors[0]} takes "
        f"{'both' if types else 'neither'}"
    )


def validate_pipeline(ops: List[Op], custom_checks: Optional[List[ValidityCheck]] = None) -> None:
    """CompileError unless types fit, with one softmax at most, and nothing after the tokens."""
    if not ops:
        raise CompileError("pipeline: operators: got none, expected at least one")
    for before, after in zip(ops, ops[1:]):
        if before.OUT != after.IN:
            got = f"got {before.OUT} of {type(before).__name__}, expected {after.IN}"
            raise CompileError(f"{type(after).__name__}: input: {got}")
    if sum(isinstance(op, _op.SoftmaxOp) for op in ops) > 1:
        raise CompileError("pipeline: Softmax: got more than one, expected one at most")
    for check in custom_checks or []:
        check(ops)


def _apply_rules(ops: List[Op], rules: Sequence[FusionRule]) -> List[Op]:
    ops, i = list(ops), 0
    ordered = sorted(rules, key=lambda rule: -rule.prio)
    while i < len(ops):
        for rule in ordered:
            window = ops[i : i + len(rule.pattern)]
            fits = len(window) == len(rule.pattern) and all(map(isinstance, window, rule.pattern))
            if fits and rule.guard(window):
                ops[i : i + len(window)] = [rule.build(window)]
                i = max(i - 1, 0)
                break
        else:
            i += 1
    return ops


def _fused(ops: List[Op]) -> Optional[Op]:
    """One operator that means the same as these, or None."""
    names = [type(op) for op in ops]
    known = (
        _op.TemperatureOp,
        _op.LogitsTopKOp,
        _op.SoftmaxOp,
        _op.ProbsTopKOp,
        _op.TopPOp,
        _op.MinPOp,
        _op.LogitsSampleOp,
        _op.ProbsSampleOp,
    )
    if any(name not in known for name in names) or len(ops) < 2:
        return None
    top_ks = [i for i, op in enumerate(ops) if isinstance(op, (_op.LogitsTopKOp, _op.ProbsTopKOp))]
    if len(top_ks) > 1 or any(names.count(name) > 1 for name in names):
        return None
    order = "top_k_first"
    if _op.TopPOp in names:
        top_p = names.index(_op.TopPOp)
        if _op.MinPOp in names[:top_p]:
            return None  # the nucleus of what min-p keeps
        joint = bool(top_ks) and ops[top_ks[0]].default_params.get("joint_topk_topp", False)
        if top_ks and (top_ks[0] > top_p or (joint and names[top_p - 1] is _op.ProbsTopKOp)):
            order = "joint"
    first, last = ops[0].IN, ops[-1].OUT
    if last == TensorType.INDICES or first == last == TensorType.PROBS:
        return _op.FusedOp(ops, order)
    if names == [_op.TemperatureOp, _op.SoftmaxOp]:
        return _op.FusedOp(ops, order)
    return None


def _fuse(ops: List[Op]) -> List[Op]:
    """The longest runs first, from the end, where the sample is."""
    result: List[Op] = []
    end = len(ops)
    while end > 0:
        for start in range(end):
            fused = _fused(ops[start:end])
            if fused is not None:
                result.insert(0, fused)
                end = start
                break
        else:
            result.insert(0, ops[end - 1])
            end -= 1
    return result


def compile_pipeline(
    ops: List[Op],
    custom_fusion_rules: Optional[List[FusionRule]] = None,
    custom_validity_checks: Optional[List[ValidityCheck]] = None,
) -> List[Op]:
    """Checks the operators and joins them: by the given rules first, then by what Quire can do in
    one pass."""
    validate_pipeline(ops, custom_validity_checks)
    return _fuse(_apply_rules(ops, custom_fusion_rules or []))


class Compiler:
    """compile_pipeline with rules and checks registered one by one."""

    def __init__(self) -> None:
        self.fusion_rules: List[FusionRule] = []
        self.validity_checks: List[ValidityCheck] = []

    def register_fusion_rule(self, rule: FusionRule) -> None:
        self.fusion_rules.append(rule)

    def register_validity_check(self, check: ValidityCheck) -> None:
        self.validity_checks.append(check)

    def compile(self, ops: List[Op]) -> List[Op]:
        return compile_pipeline(ops, self.fusion_rules, self.validity_checks)
