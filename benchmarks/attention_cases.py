"""Builds attention benchmark cases: Quire over contiguous and paged KV, and the peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import quire
import torch
from attention_inputs import (
    DEVICE,
    DTYPE,
    Pages,
    Problem,
    Reference,
    Tensors,
    converted,
    paged,
    random_tensors,
    reference,
)
from attention_peers import ALL, decode_peers, fa3_of_problem, fa3_on_pages, prefill_peers
from harness import Case, Implementation
from separate_calls import separate_calls

BF16_ERROR = 4e-3
FP8_ERROR = 6e-2  # weights of 8 bits too
FP8 = torch.float8_e4m3fn
DTYPE_NAMES = {(DTYPE, DTYPE): "bf16", (DTYPE, FP8): "bf16 with e4m3 KV", (FP8, FP8): "e4m3"}
GRAPH_COVER_BYTES = 200 << 20  # a graph rotates over KV-caches of at least this much together


def uniform(
    batch: int,
    qo_len: int,
    kv_len: int,
    heads: tuple[int, int],
    head_dim: int | tuple[int, int],
    causal: bool,
    window_left: int = -1,
) -> Problem:
    dims = head_dim if isinstance(head_dim, tuple) else (head_dim, head_dim)
    return Problem((qo_len,) * batch, (kv_len,) * batch, *heads, *dims, causal, window_left)


def shape_label(sizes: dict[str, Any], problem: Problem, page_size: int) -> dict[str, Any]:
    dims = [problem.head_dim_qk, problem.head_dim_vo]
    window = {"window_left": problem.window_left} if problem.window_left >= 0 else {}
    causal = {"causal": problem.causal} if max(problem.qo_lens) > 1 else {}
    return {
        **sizes,
        **window,
        "num_qo_heads": problem.num_qo_heads,
        "num_kv_heads": problem.num_kv_heads,
        "head_dim": dims[0] if dims[0] == dims[1] else "/".join(map(str, dims)),
        **causal,
        "page_size": page_size,
        "dtype": DTYPE_NAMES[problem.q_dtype, problem.kv_dtype],
    }


def engine_for() -> quire.BatchAttention:
    return quire.BatchAttention(f"{DEVICE}:0" if DEVICE == "cuda" else DEVICE)


def kind_of(problem: Problem) -> dict[str, Any]:
    return {
        "num_qo_heads": problem.num_qo_heads,
        "num_kv_heads": problem.num_kv_heads,
        "head_dim_qk": problem.head_dim_qk,
        "head_dim_vo": problem.head_dim_vo,
        "causal": problem.causal,
        "window_left": problem.window_left,
    }


def planned(
    problem: Problem, tensors: Tensors, pages: Pages | None, **more: Any
) -> quire.BatchAttention:
    attention = engine_for()
    options = kind_of(problem) | more
    if pages is None:
        attention.plan(
            tensors.qo_indptr,
            tensors.kv_indptr,
            q_dtype=tensors.q.dtype,
            kv_dtype=tensors.k.dtype,
            **options,
        )
    else:
        attention.plan(
            tensors.qo_indptr,
            pages.kv_indptr,
            pages.kv_indices.to(DEVICE),
            pages.kv_last_page_len,
            page_size=pages.k_pool.shape[1],
            q_dtype=tensors.q.dtype,
            kv_dtype=pages.k_pool.dtype,
            **options,
        )
    return attention


def fp8_case(op: str, shape: dict[str, Any], problem: Problem, peers: tuple[str, ...]) -> Case:
    """KV of 8 bits, or q too, beside the same values in bf16, which the peers have too."""
    tensors = random_tensors(problem)
    q, kv = problem.q_dtype, problem.kv_dtype
    narrow = replace(tensors, q=tensors.q.to(q), k=tensors.k.to(kv), v=tensors.v.to(kv))
    exact = reference(problem, tensors)
    in_bf16 = replace(problem, q_dtype=DTYPE, kv_dtype=DTYPE)
    implementations = [
        own_implementation("quire", problem, [(narrow, None)], exact),
        own_implementation("quire bf16", in_bf16, [(tensors, None)], exact),
        *prefill_peers(in_bf16, tensors, exact, peers),
        *(fa3_of_problem("fa3 e4m3", problem, narrow, exact) if q == kv else ()),
    ]
    return Case(
        "attention",
        op,
        shape,
        implementations,
        BF16_ERROR if q == DTYPE else FP8_ERROR,
        flops=problem.flops(),
        bytes=problem.bytes(),
        rate="tflops",
    )


def own_implementation(
    name: str,
    problem: Problem,
    inputs: list[tuple[Tensors, Pages | None]],
    reference: Reference,
    plan: Callable[..., quire.BatchAttention] = planned,
) -> Implementation:
    engines = [plan(problem, tensors, pages) for tensors, pages in inputs]
    q = inputs[0][0].q
    out = torch.empty(*q.shape[:2], problem.head_dim_vo, dtype=DTYPE, device=q.device)
    options = {"causal": problem.causal, "window_left": problem.window_left}

    def run(i: int) -> None:
        tensors, pages = inputs[i]
        keys, values = (tensors.k, tensors.v) if pages is None else (pages.k_pool, pages.v_pool)
        engines[i].run(tensors.q, keys, values, out, **options)

    def error() -> float:
        run(0)
        return reference.error(out)

    return Implementation(name, run, error)


def invariant_case(op: str, shape: dict[str, Any], problem: Problem, page_size: int) -> Case:
    """Decode by a plan whose results do not depend on the batch, beside the usual plan."""
    tensors = random_tensors(problem)
    inputs = [(tensors, paged(problem, tensors, page_size))]
    exact = reference(problem, tensors)
    invariant = partial(planned, batch_invariant=True)
    implementations = [
        own_implementation("quire", problem, inputs, exact, invariant),
        own_implementation("quire batch-dependent", problem, inputs, exact),
    ]
    return Case("attention", op, shape, implementations, BF16_ERROR, bytes=problem.bytes())


def attention_case(
    op: str,
    shape: dict[str, Any],
    problem: Problem,
    page_sizes: Sequence[int],
    peers: tuple[str, ...] = ALL,
) -> Case:
    """page_sizes: 0 is contiguous KV; the first is "quire", each other one a row of its own."""
    tensors = random_tensors(problem)
    exact = reference(problem, tensors)
    implementations, on_pages = [], []
    for page_size in page_sizes:
        name = f"quire page {page_size}" if page_size else "quire contiguous"
        pages = paged(problem, tensors, page_size) if page_size else None
        implementations.append(
            own_implementation(
                name if implementations else "quire", problem, [(tensors, pages)], exact
            )
        )
        if pages and op.startswith("mixed") and page_size == page_sizes[0]:
            implementations.append(separate_calls(problem, tensors, pages, exact, planned))
        if pages and "fa3" in peers:
            name = "fa3 paged" if page_size == page_sizes[0] else f"fa3 page {page_size}"
            on_pages += fa3_on_pages(name, problem, tensors, pages, exact)
    return Case(
        "attention",
        op,
        shape,
        [*implementations, *prefill_peers(problem, tensors, exact, peers), *on_pages],
        BF16_ERROR,
        flops=problem.flops(),
        bytes=problem.bytes(),
        rate="tflops" if op.startswith("prefill") else "",
    )


def decode_case(
    op: str, shape: dict[str, Any], problem: Problem, page_size: int, graph: bool
) -> Case:
    """One query token a request. For KV in another type Quire runs on both, peers on bf16."""
    num_inputs = 1
    if graph:
        num_inputs = min(16, math.ceil(GRAPH_COVER_BYTES / problem.bytes()) + 1)
    inputs = [random_tensors(problem) for _ in range(num_inputs)]
    pools = [paged(problem, tensors, page_size) for tensors in inputs]
    exact = reference(problem, inputs[0])
    implementations = [
        own_implementation("quire", problem, list(zip(inputs, pools)), exact),
        *decode_peers(replace(problem, kv_dtype=DTYPE), inputs, pools, exact),
    ]
    if problem.kv_dtype != DTYPE:
        for implementation in implementations:
            implementation.bytes = replace(problem, kv_dtype=DTYPE).bytes()
        implementations[0].name = "quire bf16 KV"
        pools = [converted(pages, problem.kv_dtype) for pages in pools]
        own = own_implementation("quire", problem, list(zip(inputs, pools)), exact)
        implementations.insert(0, own)
    return Case(
        "attention",
        op,
        shape,
        implementations,
        BF16_ERROR,
        flops=problem.flops(),
        bytes=problem.bytes(),
        num_inputs=num_inputs,
        graph=graph,
    )
