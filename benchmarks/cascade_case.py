"""Benchmark of requests behind one prefix: a cascade beside plans that do not know of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import fa3_peer
import quire
import torch
from attention_cases import BF16_ERROR, engine_for, kind_of, own_implementation
from attention_inputs import Pages, Problem, Tensors, indptr, paged, random_tensors, reference
from attention_peers import fa3_implementation
from harness import Case


def with_shared_prefix(problem: Problem, prefix: int) -> Tensors:
    """Random tensors; the first `prefix` tokens are the same in all requests."""
    tensors = random_tensors(problem)
    begins = tensors.kv_indptr[:-1].tolist()
    for rows in (tensors.k, tensors.v):
        for begin in begins:
            rows[begin : begin + prefix] = rows[:prefix]
    return tensors


def shared_pages(problem: Problem, tensors: Tensors, prefix: int, page_size: int) -> Pages:
    """Shuffled pages, of which those of the prefix are in the pool once."""
    own_lens = [kv_len - prefix for kv_len in problem.kv_lens]
    begins = tensors.kv_indptr.tolist()

    def parts(rows: torch.Tensor) -> torch.Tensor:
        own = [rows[begin + prefix : end] for begin, end in zip(begins, begins[1:])]
        return torch.cat([rows[:prefix], *own])

    lens = (prefix, *own_lens)
    once = replace(tensors, k=parts(tensors.k), v=parts(tensors.v), kv_indptr=indptr(lens))
    pages = paged(replace(problem, kv_lens=lens), once, page_size)
    first = pages.kv_indptr.tolist()
    shared = pages.kv_indices[: first[1]]
    tables = [
        torch.cat([shared, pages.kv_indices[begin:end]]) for begin, end in zip(first[1:], first[2:])
    ]
    return replace(
        pages,
        kv_indptr=indptr([len(table) for table in tables]),
        kv_indices=torch.cat(tables),
        kv_last_page_len=pages.kv_last_page_len[1:],
    )


def planned_cascade(problem: Problem, tensors: Tensors, pages: Pages) -> quire.BatchAttention:
    page_size = pages.k_pool.shape[1]
    table = quire.PageTable(pages.kv_indptr, pages.kv_indices, pages.kv_last_page_len)
    attention = engine_for()
    attention.plan_cascade(
        quire.find_cascade(tensors.qo_indptr, table, page_size),
        page_size=page_size,
        kv_dtype=pages.k_pool.dtype,
        **kind_of(problem),
    )
    return attention


def cascade_case(
    op: str, shape: dict[str, Any], problem: Problem, prefix: int, page_size: int
) -> Case:
    """prefix: whole pages. The limit is that of reading every page once."""
    tensors = with_shared_prefix(problem, prefix)
    exact = reference(problem, tensors)
    pages = shared_pages(problem, tensors, prefix, page_size)
    inputs = [(tensors, pages)]
    implementations = [
        own_implementation("quire", problem, inputs, exact, planned_cascade),
        own_implementation("quire flat", problem, inputs, exact),
    ]
    call = fa3_peer.decode(problem, tensors.q, pages)
    if call is not None:
        implementations.append(fa3_implementation("fa3", [call], exact))
    once = replace(problem, kv_lens=(prefix, *(n - prefix for n in problem.kv_lens)))
    return Case(
        "attention",
        op,
        shape,
        implementations,
        BF16_ERROR,
        flops=problem.flops(),
        bytes=once.bytes(),
    )
