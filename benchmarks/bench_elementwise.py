"""The memory-bound operators beside torch, torch.compile and, where it is installed, FlashInfer: at
64 MB and more, and 128 rows in replayed graphs. In-place addition with a norm, and softmax, apart.

Arguments: words that a case's title must contain, all of them.
"""

from __future__ import annotations

import sys
from typing import Any

import quire
import torch
from elementwise_ops import BF16_ERROR, EPS, Op, all_ops, small_ops
from harness import (
    Case,
    Implementation,
    copy_of,
    finish,
    is_wanted,
    open_session,
    relative_error,
    run_case,
)
from torch.nn import functional

L2_COVER_BYTES = 200 << 20  # inputs of a graph case rotate over at least this much memory
SMALL_ROWS = 128


def real_flashinfer() -> Any:
    """The peer, or None where it cannot be imported."""
    try:
        import flashinfer
    except ImportError:
        return None
    return None if flashinfer.__name__.startswith("quire") else flashinfer


def num_input_sets(op: Op, rows: int) -> int:
    return max(1, min(64, int(L2_COVER_BYTES // (op.bytes_per_row * rows))))


def op_case(op: Op, rows: int, graph: bool) -> Case:
    inputs = [op.make(rows) for _ in range(num_input_sets(op, rows) if graph else 1)]
    exact = op.exact(*inputs[0])
    compiled = torch.compile(op.torch, dynamic=False)
    functions = {"quire": op.quire, "torch": op.torch, "torch.compile": compiled}
    flashinfer = real_flashinfer()
    if op.flashinfer is not None and flashinfer is not None:
        functions["flashinfer"] = lambda *tensors: op.flashinfer(flashinfer, *tensors)
    implementations = []
    for name, function in functions.items():
        results: list[Any] = [None]

        def run(i: int, function: Any = function, results: list[Any] = results) -> None:
            results[0] = function(*inputs[i])

        def error(results: list[Any] = results) -> float:
            return relative_error(op.values(results[0]), exact)

        implementations.append(Implementation(name, run, error))
    if not graph:
        implementations.append(copy_of(op.bytes_per_row * rows))
    return Case(
        "elementwise",
        op.name + ("_graph" if graph else ""),
        {"rows": rows, **op.shape},
        implementations,
        error_limit=op.error,
        bytes=op.bytes_per_row * rows,
        num_inputs=len(inputs),
        graph=graph,
    )


def fused_add_rms_norm_case(num_rows: int, width: int) -> Case:
    """In place, so the residual grows from run to run; errors are of a run on fresh copies."""
    x, residual = (torch.randn(num_rows, width, device="cuda").bfloat16() for _ in range(2))
    weight = torch.randn(width, dtype=torch.bfloat16, device="cuda")
    total = x.double() + residual.double()
    exact = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + EPS) * weight.double()
    work = [x.clone(), residual.clone()]

    def quire_error() -> float:
        out, sums = x.clone(), residual.clone()
        quire.fused_add_rms_norm(out, sums, weight, EPS)
        return max(relative_error(out, exact), relative_error(sums, total))

    def torch_add_norm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        b.add_(a)
        return functional.rms_norm(b, (width,), weight, EPS)

    compiled = torch.compile(torch_add_norm, dynamic=False)
    peers = [
        Implementation(
            name,
            lambda _, run=run: run(x, work[1]),
            lambda run=run: relative_error(run(x, residual.clone()), exact),
        )
        for name, run in (("torch", torch_add_norm), ("torch.compile", compiled))
    ]
    own = Implementation(
        "quire",
        lambda _: quire.fused_add_rms_norm(work[0], work[1], weight, EPS),
        quire_error,
    )
    return Case(
        "elementwise",
        "fused_add_rms_norm",
        {"rows": num_rows, "hidden": width, "dtype": "bf16"},
        [own, *peers],
        error_limit=2 * BF16_ERROR,
        bytes=4 * x.numel() * 2,
    )


def softmax_case(num_rows: int, vocab: int) -> Case:
    logits = torch.randn(num_rows, vocab, device="cuda")
    exact = torch.softmax(logits.double(), -1)
    own = peer = torch.empty_like(logits)

    def quire_run(_: int) -> None:
        nonlocal own
        own = quire.softmax(logits)

    def torch_run(_: int) -> None:
        nonlocal peer
        peer = torch.softmax(logits, -1)

    return Case(
        "elementwise",
        "softmax",
        {"rows": num_rows, "vocab": vocab, "dtype": "f32"},
        [
            Implementation("quire", quire_run, lambda: relative_error(own, exact)),
            Implementation("torch", torch_run, lambda: relative_error(peer, exact)),
        ],
        error_limit=1e-5,
        bytes=2 * logits.numel() * 4,
    )


def main(words: list[str]) -> int:
    torch.manual_seed(0)
    session = open_session()
    for op, rows in all_ops():
        if is_wanted(op.name, words):
            run_case(op_case(op, rows, graph=False), session)
    for op in small_ops():
        if is_wanted(op.name, words):
            run_case(op_case(op, SMALL_ROWS, graph=True), session)
    if is_wanted("fused_add_rms_norm", words):
        run_case(fused_add_rms_norm_case(8192, 4096), session)
    if is_wanted("softmax", words):
        run_case(softmax_case(512, 128256), session)
    return finish(session, "elementwise", keep_others=bool(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
