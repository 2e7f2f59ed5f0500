"""RMSNorm, fused add + RMSNorm, SiLU-and-mul and softmax, beside torch."""

from __future__ import annotations

import sys

import quire
import torch
from harness import Case, Implementation, finish, open_session, relative_error, run_case
from torch.nn import functional

EPS = 1e-6
BF16_ERROR = 4e-3
L2_COVER_BYTES = 200 << 20  # inputs of a graph case rotate over at least this much memory


def input_sets(num_rows: int, width: int, graph: bool, dtype=torch.bfloat16) -> list[torch.Tensor]:
    one = torch.randn(num_rows, width, device="cuda").to(dtype)
    count = max(1, min(64, L2_COVER_BYTES // (one.numel() * one.element_size()))) if graph else 1
    return [one, *(torch.randn_like(one) for _ in range(count - 1))]


def rms_norm_case(num_rows: int, width: int, graph: bool) -> Case:
    inputs = input_sets(num_rows, width, graph)
    weight = torch.randn(width, dtype=torch.bfloat16, device="cuda")
    exact = inputs[0].double()
    exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + EPS) * weight.double()
    own, peer = torch.empty_like(inputs[0]), torch.empty_like(inputs[0])

    def torch_run(i: int) -> None:
        nonlocal peer
        peer = functional.rms_norm(inputs[i], (width,), weight, EPS)

    return Case(
        "elementwise",
        "rms_norm_graph" if graph else "rms_norm",
        {"rows": num_rows, "hidden": width, "dtype": "bf16"},
        [
            Implementation(
                "quire",
                lambda i: quire.rms_norm(inputs[i], weight, EPS, own),
                lambda: relative_error(own, exact),
            ),
            Implementation("torch", torch_run, lambda: relative_error(peer, exact)),
        ],
        error_limit=BF16_ERROR,
        bytes=2 * inputs[0].numel() * 2,
        num_inputs=len(inputs),
        graph=graph,
    )


def silu_and_mul_case(num_rows: int, hidden: int) -> Case:
    (gates,) = input_sets(num_rows, 2 * hidden, graph=False)
    exact = functional.silu(gates[:, :hidden].double()) * gates[:, hidden:].double()
    own = peer = torch.empty(num_rows, hidden, dtype=torch.bfloat16, device="cuda")

    def quire_run(_: int) -> None:
        nonlocal own
        own = quire.silu_and_mul(gates)

    def torch_run(_: int) -> None:
        nonlocal peer
        peer = functional.silu(gates[:, :hidden]) * gates[:, hidden:]

    return Case(
        "elementwise",
        "silu_and_mul",
        {"rows": num_rows, "hidden": hidden, "dtype": "bf16"},
        [
            Implementation("quire", quire_run, lambda: relative_error(own, exact)),
            Implementation("torch", torch_run, lambda: relative_error(peer, exact)),
        ],
        error_limit=2 * BF16_ERROR,  # torch rounds the activation to bf16 on the way
        bytes=3 * own.numel() * 2,
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

    return Case(
        "elementwise",
        "fused_add_rms_norm",
        {"rows": num_rows, "hidden": width, "dtype": "bf16"},
        [
            Implementation(
                "quire",
                lambda _: quire.fused_add_rms_norm(work[0], work[1], weight, EPS),
                quire_error,
            ),
            Implementation(
                "torch",
                lambda _: torch_add_norm(x, work[1]),
                lambda: relative_error(torch_add_norm(x, residual.clone()), exact),
            ),
        ],
        error_limit=2 * BF16_ERROR,
        bytes=4 * x.numel() * 2,
    )


def softmax_case(num_rows: int, vocab: int) -> Case:
    (logits,) = input_sets(num_rows, vocab, graph=False, dtype=torch.float32)
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


def main() -> int:
    torch.manual_seed(0)
    session = open_session()
    for num_rows, width, graph in [(8192, 4096, False), (128, 4096, False), (128, 4096, True)]:
        run_case(rms_norm_case(num_rows, width, graph), session)
    run_case(fused_add_rms_norm_case(8192, 4096), session)
    run_case(silu_and_mul_case(8192, 14336), session)
    run_case(softmax_case(512, 128256), session)
    return finish(session, "elementwise")


if __name__ == "__main__":
    sys.exit(main())
