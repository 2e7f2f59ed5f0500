"""Inputs of attention benchmarks, the same values paged and contiguous, and exact results."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

MAX_CHECKED_ROWS = 512  # rows of a request that are compared with the reference


@dataclass
class PagedBatch:
    """One decode or prefill batch whose K and V are in shuffled pages, NHD."""

    q: torch.Tensor  # [total_q, num_qo_heads, head_dim]
    k_pool: torch.Tensor  # [num_pages, page_size, num_kv_heads, head_dim]
    v_pool: torch.Tensor
    qo_indptr: torch.Tensor  # i32 [batch + 1], host
    kv_indptr: torch.Tensor  # pages
    kv_indices: torch.Tensor
    kv_last_page_len: torch.Tensor
    kv_lens: list[int]

    def contiguous(self, request: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of one request, [kv_len, num_kv_heads, head_dim]."""
        begin, end = self.kv_indptr[request], self.kv_indptr[request + 1]
        pages = self.kv_indices[begin:end].to(self.k_pool.device).long()
        length = self.kv_lens[request]
        return tuple(pool[pages].flatten(0, 1)[:length] for pool in (self.k_pool, self.v_pool))


def indptr(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def paged_batch(
    qo_lens: list[int],
    kv_lens: list[int],
    heads: tuple[int, int],
    head_dim: int,
    page_size: int,
    dtype: torch.dtype = torch.bfloat16,
) -> PagedBatch:
    num_qo_heads, num_kv_heads = heads
    pages = [math.ceil(length / page_size) for length in kv_lens]
    num_pages = sum(pages)
    shape = (num_pages, page_size, num_kv_heads, head_dim)
    return PagedBatch(
        q=torch.randn(sum(qo_lens), num_qo_heads, head_dim, dtype=dtype, device="cuda"),
        k_pool=torch.randn(shape, dtype=dtype, device="cuda"),
        v_pool=torch.randn(shape, dtype=dtype, device="cuda"),
        qo_indptr=indptr(qo_lens),
        kv_indptr=indptr(pages),
        kv_indices=torch.randperm(num_pages).int(),
        kv_last_page_len=torch.tensor(
            [length - (n - 1) * page_size for length, n in zip(kv_lens, pages)], dtype=torch.int32
        ),
        kv_lens=kv_lens,
    )


def checked_rows(length: int) -> torch.Tensor:
    """All rows, or evenly spread ones with the first and the last among them."""
    count = min(length, MAX_CHECKED_ROWS)
    return torch.linspace(0, length - 1, count).round().long().cuda()


def exact_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, rows: torch.Tensor
) -> torch.Tensor:
    """Rows of the attention of one request, in double: [rows, num_qo_heads, head_dim].

    q [qo_len, num_qo_heads, head_dim], k and v [kv_len, num_kv_heads, head_dim]; causal is aligned
    to the end.
    """
    qo_len, num_qo_heads, head_dim = q.shape
    kv_len, num_kv_heads, _ = k.shape
    group = num_qo_heads // num_kv_heads
    hidden = None
    if causal:
        last_seen = rows + kv_len - qo_len
        hidden = torch.arange(kv_len, device=q.device)[None, :] > last_seen[:, None]
    out = torch.empty(len(rows), num_qo_heads, head_dim, dtype=torch.float64, device=q.device)
    for head in range(num_qo_heads):
        keys, values = k[:, head // group].double(), v[:, head // group].double()
        scores = q[rows, head].double() @ keys.T / math.sqrt(head_dim)
        if hidden is not None:
            scores.masked_fill_(hidden, -math.inf)
        out[:, head] = torch.softmax(scores, -1) @ values
    return out
