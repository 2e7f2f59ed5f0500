"""Where attention could choose a better kernel: batches by every kernel that serves them.

Kernels are forced by QUIRE_FORCE_KERNEL and timed in interleaved rounds of one process. A line a
batch: us of the chosen kernel and of the others, `<--` where another is faster by more than 4 %
and 2 us, WRONG where outputs differ. A kernel behind itself, as decode may be behind the chosen
one, starts up to 2 us sooner: its code is in the caches. Writes nothing.

    survey_dispatch.py [TEXT...]   only batches whose name contains every TEXT; --list prints names
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from attention_cases import FP8, planned, uniform
from attention_inputs import (
    DEVICE,
    DTYPE,
    Pages,
    Problem,
    Tensors,
    converted,
    paged,
    random_tensors,
)
from harness import interleaved_us, is_wanted
from quire import BatchAttention

VARIABLE = "QUIRE_FORCE_KERNEL"
KERNELS = ("decode", "sm90", "sm80")
ROUNDS = 15
TIE, TIE_US = 1.04, 2
LARGEST_ERROR = 2e-2  # between two kernels

HEAD_DIMS = (64, 80, 96, 128, (192, 128), 256)
PAGE_SIZES = (16, 1)
# query heads, KV heads, new tokens a request
ROWS = (
    *((32, 8, tokens) for tokens in (1, 2, 3, 4, 6, 8, 16, 32, 64)),
    (32, 32, 1),
    (28, 4, 1),
    (16, 1, 1),
    (32, 1, 1),
    (64, 1, 1),
)
SIZES = ((1, 8192), (16, 1024), (64, 2048))  # requests, tokens of each


@dataclass(frozen=True)
class Batch:
    name: str
    problem: Problem
    page_size: int


def batches() -> Iterator[Batch]:
    for head_dim, kv_dtype, page_size in itertools.product(HEAD_DIMS, (DTYPE, FP8), PAGE_SIZES):
        for (qo_heads, kv_heads, tokens), (requests, kv_len) in itertools.product(ROWS, SIZES):
            dims = head_dim if isinstance(head_dim, int) else "/".join(map(str, head_dim))
            cache = "bf16" if kv_dtype == DTYPE else "e4m3"
            heads = (qo_heads, kv_heads)
            problem = uniform(requests, tokens, kv_len, heads, head_dim, causal=tokens > 1)
            yield Batch(
                f"d{dims} {cache} page {page_size} heads {qo_heads}/{kv_heads} "
                f"{requests} x {tokens} of {kv_len}",
                replace(problem, kv_dtype=kv_dtype),
                page_size,
            )


def planned_by(kernel: str, problem: Problem, tensors: Tensors, pages: Pages) -> BatchAttention:
    """Planning chooses the kernel. "": by the table."""
    os.environ.pop(VARIABLE, None)
    if kernel:
        os.environ[VARIABLE] = kernel
    return planned(problem, tensors, pages)


def survey(batch: Batch) -> str:
    problem = batch.problem
    tensors = random_tensors(problem)
    pages = converted(paged(problem, tensors, batch.page_size), problem.kv_dtype)
    outputs: dict[str, torch.Tensor] = {}
    runs: dict[str, Callable[[], object]] = {}
    for kernel in ("", *KERNELS):
        try:
            engine = planned_by(kernel, problem, tensors, pages)
        except NotImplementedError:
            continue  # it does not serve this batch
        out = torch.empty(*tensors.q.shape[:2], problem.head_dim_vo, dtype=DTYPE, device=DEVICE)
        run = partial(engine.run, tensors.q, pages.k_pool, pages.v_pool, out, causal=problem.causal)
        run()
        outputs[kernel], runs[kernel] = out.float(), run
    times = interleaved_us(list(runs.values()), ROUNDS)
    us = {kernel: statistics.median(each) for kernel, each in zip(runs, times)}
    exact = outputs[""]
    wrong = [k for k, o in outputs.items() if (o - exact).norm() > LARGEST_ERROR * exact.norm()]
    best = min(us, key=lambda kernel: us[kernel])
    line = " | ".join(f"{kernel or 'chosen'} {value:.1f}" for kernel, value in us.items())
    mark = (
        f"  <-- {best} {us[''] / us[best]:.2f}"
        if us[""] > max(TIE * us[best], TIE_US + us[best])
        else ""
    )
    return f"{batch.name}: {line}{mark}{f'  WRONG {wrong}' if wrong else ''}"


def main() -> int:
    wanted = [text for text in sys.argv[1:] if text != "--list"]
    chosen = [batch for batch in batches() if is_wanted(batch.name, wanted)]
    for batch in chosen:
        print(batch.name if "--list" in sys.argv else survey(batch), flush=True)
    return 0 if chosen else 1


if __name__ == "__main__":
    sys.exit(main())
