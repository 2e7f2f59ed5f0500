"""Inputs of attention benchmarks, the same values contiguous and paged, and exact results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

DEVICE = "cuda"
DTYPE = torch.bfloat16
MAX_CHECKED_ROWS = 96  # of a request that are compared with the reference
MAX_CHECKED_REQUESTS = 12


@dataclass(frozen=True)
class Problem:
    """What one attention call computes. Causal and window are aligned to the end of a request."""

    qo_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    head_dim_vo: int
    causal: bool
    window_left: int = -1
    q_dtype: torch.dtype = DTYPE
    kv_dtype: torch.dtype = DTYPE  # peers that do not have these get the same values in bf16

    @property
    def is_uniform(self) -> bool:
        return len(set(self.qo_lens)) == 1 and len(set(self.kv_lens)) == 1

    def seen_pairs(self) -> float:
        """(row, token) pairs that are needed; causal counts as half of a square."""
        pairs = 0.0
        for qo_len, kv_len in zip(self.qo_lens, self.kv_lens):
            seen = qo_len * (kv_len - qo_len / 2) if self.causal and qo_len > 1 else qo_len * kv_len
            if self.window_left >= 0:
                seen = min(seen, qo_len * (self.window_left + 1))
            pairs += seen
        return pairs

    def flops(self) -> float:
        return 2 * self.seen_pairs() * self.num_qo_heads * (self.head_dim_qk + self.head_dim_vo)

    def bytes(self) -> float:
        """Every element of q, k, v and out once."""
        tokens = sum(self.kv_lens)
        if self.window_left >= 0:
            reach = [q + self.window_left for q in self.qo_lens]
            tokens = sum(min(kv_len, r) for kv_len, r in zip(self.kv_lens, reach))
        rows, dims = sum(self.qo_lens) * self.num_qo_heads, (self.head_dim_qk, self.head_dim_vo)
        kv = self.kv_dtype.itemsize * tokens * self.num_kv_heads * sum(dims)
        return kv + rows * (self.q_dtype.itemsize * dims[0] + DTYPE.itemsize * dims[1])


@dataclass
class Tensors:
    """Contiguous inputs: all requests one after the other."""

    q: torch.Tensor  # [total_q, num_qo_heads, head_dim_qk]
    k: torch.Tensor  # [total_kv, num_kv_heads, head_dim_qk]
    v: torch.Tensor  # [total_kv, num_kv_heads, head_dim_vo]
    qo_indptr: torch.Tensor  # i32 [batch + 1], host
    kv_indptr: torch.Tensor


@dataclass
class Pages:
    """The same K and V in shuffled pages, NHD."""

    k_pool: torch.Tensor  # [num_pages, page_size, num_kv_heads, head_dim]
    v_pool: torch.Tensor
    kv_indptr: torch.Tensor  # i32 [batch + 1], in pages, host
    kv_indices: torch.Tensor
    kv_last_page_len: torch.Tensor


def indptr(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def random_tensors(problem: Problem) -> Tensors:
    """In bf16, with values that q_dtype and kv_dtype have."""

    def normal(rows: int, heads: int, head_dim: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(rows, heads, head_dim, dtype=DTYPE, device=DEVICE).to(dtype).to(DTYPE)

    total_kv = sum(problem.kv_lens)
    return Tensors(
        q=normal(sum(problem.qo_lens), problem.num_qo_heads, problem.head_dim_qk, problem.q_dtype),
        k=normal(total_kv, problem.num_kv_heads, problem.head_dim_qk, problem.kv_dtype),
        v=normal(total_kv, problem.num_kv_heads, problem.head_dim_vo, problem.kv_dtype),
        qo_indptr=indptr(problem.qo_lens),
        kv_indptr=indptr(problem.kv_lens),
    )


def paged(problem: Problem, tensors: Tensors, page_size: int) -> Pages:
    """In bf16."""
    counts = [math.ceil(length / page_size) for length in problem.kv_lens]
    kv_indices = torch.randperm(sum(counts)).int()
    first_page = indptr(counts)
    lengths = torch.tensor(problem.kv_lens)
    position = torch.arange(sum(problem.kv_lens))
    position -= torch.repeat_interleave(tensors.kv_indptr[:-1].long(), lengths)
    page = torch.repeat_interleave(first_page[:-1].long(), lengths) + position // page_size
    slots = (kv_indices[page].long() * page_size + position % page_size).to(DEVICE)

    def pool(rows: torch.Tensor) -> torch.Tensor:
        shape = (sum(counts) * page_size, *rows.shape[1:])
        scattered = torch.ones(shape, dtype=rows.dtype, device=rows.device)
        scattered[slots] = rows
        return scattered.unflatten(0, (sum(counts), page_size))

    last = [n - (c - 1) * page_size for n, c in zip(problem.kv_lens, counts)]
    return Pages(
        k_pool=pool(tensors.k),
        v_pool=pool(tensors.v),
        kv_indptr=first_page,
        kv_indices=kv_indices,
        kv_last_page_len=torch.tensor(last, dtype=torch.int32),
    )


def converted(pages: Pages, dtype: torch.dtype) -> Pages:
    return replace(pages, k_pool=pages.k_pool.to(dtype), v_pool=pages.v_pool.to(dtype))


def sample(count: int, limit: int) -> list[int]:
    """Up to `limit` of 0 .. count - 1 in order: the first, the last and random others."""
    if count <= limit:
        return list(range(count))
    inner = (torch.randperm(count - 2)[: limit - 2] + 1).tolist()
    return [0, *sorted(inner), count - 1]


@dataclass
class Reference:
    """Exact outputs in double of some rows of some requests."""

    rows: torch.Tensor  # among all rows of the batch
    exact: torch.Tensor  # [rows, num_qo_heads, head_dim_vo]

    def error(self, out: torch.Tensor) -> float:
        """Relative Frobenius error of [total_q, num_qo_heads, head_dim_vo]."""
        chosen = out[self.rows].double()
        value = float((chosen - self.exact).norm() / self.exact.norm())
        return value if math.isfinite(value) else math.inf


def reference(problem: Problem, tensors: Tensors) -> Reference:
    """Checks the longest request, and others at random."""
    batch = len(problem.qo_lens)
    longest = max(range(batch), key=lambda r: problem.kv_lens[r])
    rows, exact = [], []
    for request in sorted({longest, *sample(batch, MAX_CHECKED_REQUESTS)}):
        chosen = torch.tensor(sample(problem.qo_lens[request], MAX_CHECKED_ROWS), device=DEVICE)
        rows.append(chosen + int(tensors.qo_indptr[request]))
        exact.append(exact_rows(problem, tensors, request, chosen))
    return Reference(torch.cat(rows), torch.cat(exact))


def exact_rows(
    problem: Problem, tensors: Tensors, request: int, rows: torch.Tensor
) -> torch.Tensor:
    """Rows of the attention of one request, in double: [rows, num_qo_heads, head_dim_vo]."""
    qo_len, kv_len = problem.qo_lens[request], problem.kv_lens[request]
    begin = int(tensors.kv_indptr[request])
    group = problem.num_qo_heads // problem.num_kv_heads
    last_seen = (rows + kv_len - qo_len).repeat_interleave(group)[:, None]
    token = torch.arange(kv_len, device=DEVICE)[None, :]
    hidden = torch.zeros(len(last_seen), kv_len, dtype=torch.bool, device=DEVICE)
    if problem.causal:
        hidden |= token > last_seen
    if problem.window_left >= 0:
        hidden |= token < last_seen - problem.window_left
    q = tensors.q[rows + int(tensors.qo_indptr[request])]
    out = torch.empty(
        len(rows), problem.num_qo_heads, problem.head_dim_vo, dtype=torch.float64, device=DEVICE
    )
    for head in range(problem.num_kv_heads):
        heads = slice(head * group, (head + 1) * group)
        keys, values = (t[begin : begin + kv_len, head].double() for t in (tensors.k, tensors.v))
        scores = q[:, heads].double().flatten(0, 1) @ keys.T / math.sqrt(problem.head_dim_qk)
        weights = torch.softmax(scores.masked_fill_(hidden, -math.inf), -1)
        out[:, heads] = (weights @ values).unflatten(0, (len(rows), group))
    return out
