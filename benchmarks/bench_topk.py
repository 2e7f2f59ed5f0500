"""Top-k selection beside torch.topk and FlashInfer.

A first argument runs only the cases whose title contains it; the others keep their rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import quire
import torch
from harness import Case, Implementation, finish, is_wanted, open_session, run_case

try:
    import flashinfer
except ImportError:
    flashinfer = None

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SHAPES = [
    (rows, length, k)
    for rows in (1, 16, 64, 256)
    for length in (4096, 16384, 65536, 131072, 262144, 524288)
    for k in (256, 2048)
    if rows * length <= 256 * 131072
]
STRESS = [(2048, 131072, 1024), (4096, 200000, 1024)]


def topk_case(num_rows: int, length: int, k: int, dtype: str) -> Case:
    x = torch.randn(num_rows, length, device="cuda", dtype=DTYPES[dtype])
    expected = torch.topk(x, k).values
    outputs: dict[str, torch.Tensor] = {}

    def implementation(name: str, call: Callable[[], torch.Tensor]) -> Implementation:
        def run(_: int) -> None:
            outputs[name] = call()

        def error() -> float:
            """Share of values that differ from torch's, in descending order."""
            values = torch.sort(outputs[name].float(), -1, descending=True).values
            return (values != expected.float()).double().mean().item()

        return Implementation(name, run, error)

    implementations = [
        implementation("quire", lambda: quire.top_k(x, k)[0]),
        implementation("torch", lambda: torch.topk(x, k).values),
    ]
    if flashinfer is not None:
        peer = flashinfer.top_k
        implementations.append(implementation("flashinfer", lambda: peer(x, k)[0]))
        implementations.append(
            implementation("flashinfer sorted", lambda: peer(x, k, sorted=True)[0])
        )
    num_bytes = x.numel() * x.element_size() + num_rows * k * (x.element_size() + 4)
    shape = {"rows": num_rows, "length": length, "k": k, "dtype": dtype}
    return Case("topk", "top_k", shape, implementations, 0.0, bytes=num_bytes)


def main() -> int:
    torch.manual_seed(0)
    session = open_session()
    wanted = sys.argv[1:2]
    for rows, length, k in [*SHAPES, *STRESS]:
        for dtype in DTYPES:
            title = f"top_k rows={rows} length={length} k={k} dtype={dtype}"
            if is_wanted(title, wanted):
                run_case(topk_case(rows, length, k, dtype), session)
    return finish(session, "topk", keep_others=bool(wanted))


if __name__ == "__main__":
    sys.exit(main())
