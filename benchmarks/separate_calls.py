"""A mixed batch in two calls, decode requests and prompts apart: what one call has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import quire
import torch
from attention_inputs import Pages, Problem, Reference, Tensors
from harness import Implementation

Plan = Callable[[Problem, Tensors, Pages], quire.BatchAttention]


def part_of(
    problem: Problem, tensors: Tensors, pages: Pages, begin: int, end: int
) -> tuple[Problem, Tensors, Pages]:
    """Requests [begin, end) of a batch, in the same pools."""
    rows, table = tensors.qo_indptr[begin : end + 1], pages.kv_indptr[begin : end + 1]
    return (
        replace(problem, qo_lens=problem.qo_lens[begin:end], kv_lens=problem.kv_lens[begin:end]),
        replace(tensors, q=tensors.q[rows[0] : rows[-1]], qo_indptr=rows - rows[0]),
        replace(
            pages,
            kv_indptr=table - table[0],
            kv_indices=pages.kv_indices[table[0] : table[-1]],
            kv_last_page_len=pages.kv_last_page_len[begin:end],
        ),
    )


def separate_calls(
    problem: Problem, tensors: Tensors, pages: Pages, exact: Reference, plan: Plan
) -> Implementation:
    """Requests of one token, which come first, and then the others."""
    first_prompt = next(i for i, length in enumerate(problem.qo_lens) if length > 1)
    ends = (0, first_prompt, len(problem.qo_lens))
    parts = [part_of(problem, tensors, pages, *range_) for range_ in zip(ends, ends[1:])]
    calls = [(plan(*part), part[1].q) for part in parts]
    shape = (*tensors.q.shape[:2], problem.head_dim_vo)
    out = torch.empty(shape, dtype=tensors.q.dtype, device=tensors.q.device)
    outs = out.split([len(q) for _, q in calls])

    def run(_: int) -> None:
        for (engine, q), rows in zip(calls, outs):
            engine.run(q, pages.k_pool, pages.v_pool, rows, causal=True)

    def error() -> float:
        run(0)
        return exact.error(out)

    return Implementation("quire apart", run, error)
