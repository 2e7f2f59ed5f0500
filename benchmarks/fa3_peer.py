"""FlashAttention-3 without PyTorch's build system: plain shared libraries, one a head dimension.

The environment variable QUIRE_FA3_LIBS names a folder with libfa3_d64.so, libfa3_d128.so, …: the
forward kernels of FlashAttention-3 for bf16 behind the C struct below; libfa3_e4m3_d64.so, …: those
for e4m3 with bf16 output. Without it, or without the library that a problem needs, this peer is
left out.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import pathlib
from collections.abc import Callable

import torch
from attention_inputs import DTYPE, Pages, Problem, Tensors

CAUSAL, FULL, VARLEN_CAUSAL, VARLEN_FULL, SPLIT_CAUSAL, PAGED_CAUSAL, DECODE = (
    1 << bit for bit in range(7)
)
STRIDES = ("batch_stride", "row_stride", "head_stride")


class Arguments(ctypes.Structure):
    """Device pointers, strides in elements, sizes."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "o", "lse")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens_q", "cu_seqlens_k", "seqused_k")),
        *((name, ctypes.c_void_p) for name in ("page_table", "workspace")),
        *((name, ctypes.c_void_p) for name in ("o_accum", "lse_accum")),
        *((f"{tensor}_{stride}", ctypes.c_int64) for tensor in "qkvo" for stride in STRIDES),
        ("page_table_stride", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("b", "seqlen_q", "seqlen_k", "total_q", "total_k")),
        *((name, ctypes.c_int32) for name in ("h", "h_k", "d", "page_size", "num_pages")),
        ("scale", ctypes.c_float),
        ("causal", ctypes.c_int32),
        ("num_splits", ctypes.c_int32),
    ]


def library(problem: Problem) -> ctypes.CDLL | None:
    prefix = {torch.bfloat16: "", torch.float8_e4m3fn: "e4m3_"}.get(problem.q_dtype)
    if prefix is None or problem.kv_dtype != problem.q_dtype:
        return None
    return load(prefix, problem.head_dim_qk)


@functools.cache
def load(prefix: str, head_dim: int) -> ctypes.CDLL | None:
    folder = os.environ.get("QUIRE_FA3_LIBS")
    path = pathlib.Path(folder or ".") / f"libfa3_{prefix}d{head_dim}.so"
    if not folder or not path.exists():
        return None
    loaded = ctypes.CDLL(str(path.resolve()))
    loaded.fa3_error.restype = ctypes.c_char_p
    loaded.fa3_fwd.argtypes = [ctypes.POINTER(Arguments), ctypes.c_void_p]
    if loaded.fa3_args_bytes() != ctypes.sizeof(Arguments) or loaded.fa3_head_dim() != head_dim:
        raise RuntimeError(f"{path}: not built for the Arguments of fa3_peer.py")
    return loaded


class Call:
    """One attention problem with FA3: the struct is filled once, run() only launches."""

    def __init__(
        self,
        problem: Problem,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        num_splits: int,
        **fields: object,
    ) -> None:
        """q, k, v: [batch, tokens, heads, head_dim], or [tokens, heads, head_dim] for varlen; or
        pools of pages. `fields`: of Arguments; tensors are kept and passed as pointers."""
        self._library = library(problem)
        assert self._library is not None
        batch, total_q = len(problem.qo_lens), sum(problem.qo_lens)
        self.out = torch.empty_like(q, dtype=DTYPE)
        partials = (num_splits * total_q if num_splits > 1 else 0) * problem.num_qo_heads
        numbers = functools.partial(torch.empty, dtype=torch.float32, device=q.device)
        workspace_ints = self._library.fa3_workspace_ints(batch)
        self._tensors = {
            "q": q,
            "k": k,
            "v": v,
            "o": self.out,
            "lse": numbers(problem.num_qo_heads * total_q),
            "workspace": torch.zeros(workspace_ints, dtype=torch.int32, device=q.device),
            "o_accum": numbers(partials * problem.head_dim_vo),
            "lse_accum": numbers(partials),
            **{name: x for name, x in fields.items() if isinstance(x, torch.Tensor)},
        }
        self._arguments = Arguments(
            b=batch,
            seqlen_q=max(problem.qo_lens),
            seqlen_k=max(problem.kv_lens),
            total_q=total_q,
            total_k=sum(problem.kv_lens),
            h=problem.num_qo_heads,
            h_k=problem.num_kv_heads,
            d=problem.head_dim_qk,
            scale=1 / math.sqrt(problem.head_dim_qk),
            causal=problem.causal,
            num_splits=num_splits,
        )
        for name, x in {"q": q, "k": k, "v": v, "o": self.out}.items():
            for stride, value in zip(STRIDES, (0, *x.stride()[:-1])[-3:]):
                setattr(self._arguments, f"{name}_{stride}", value)
        for name, x in fields.items():
            if not isinstance(x, torch.Tensor):
                setattr(self._arguments, name, x)
        for name, x in self._tensors.items():
            setattr(self._arguments, name, x.data_ptr() or None)

    def run(self) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        if self._library.fa3_fwd(ctypes.byref(self._arguments), stream):
            raise RuntimeError(self._library.fa3_error().decode())


def num_splits(problem: Problem, batch: int, seqlen_k: int, is_paged: bool) -> int:
    """What FA3's heuristic gives."""
    sizes = (max(problem.qo_lens), seqlen_k, problem.num_qo_heads, problem.num_kv_heads)
    return library(problem).fa3_num_splits(batch, *sizes, problem.causal, is_paged)


def prefill(problem: Problem, tensors: Tensors) -> Call | None:
    """Dense for equal lengths, else varlen; None where the kernel was not built."""
    loaded = library(problem)
    same_dims = problem.head_dim_qk == problem.head_dim_vo
    if loaded is None or problem.window_left >= 0 or not same_dims:
        return None
    kernels, batch = loaded.fa3_kernels(), len(problem.qo_lens)
    if not problem.is_uniform:
        if not kernels & (VARLEN_CAUSAL if problem.causal else VARLEN_FULL):
            return None
        offsets = {
            "cu_seqlens_q": tensors.qo_indptr.to(tensors.q.device),
            "cu_seqlens_k": tensors.kv_indptr.to(tensors.q.device),
        }
        return Call(problem, tensors.q, tensors.k, tensors.v, 1, **offsets)
    if not kernels & (CAUSAL if problem.causal else FULL):
        return None
    splits = 1
    if problem.causal and kernels & SPLIT_CAUSAL:
        splits = num_splits(problem, batch, problem.kv_lens[0], is_paged=False)
    dense = (t.unflatten(0, (batch, -1)) for t in (tensors.q, tensors.k, tensors.v))
    return Call(problem, *dense, splits)


def page_table(pages: Pages) -> torch.Tensor:
    """[batch, most pages of a request]"""
    counts = pages.kv_indptr.diff().tolist()
    table = torch.zeros(len(counts), max(counts), dtype=torch.int32)
    for request, count in enumerate(counts):
        begin = int(pages.kv_indptr[request])
        table[request, :count] = pages.kv_indices[begin : begin + count]
    return table.to(pages.k_pool.device)


def on_pages(
    problem: Problem, q: torch.Tensor, pages: Pages, num_splits: int, **fields: object
) -> Call:
    """q: [batch, tokens, heads, head_dim]"""
    table = page_table(pages)
    num_pages, page_size = pages.k_pool.shape[:2]
    fields |= {
        "page_table": table,
        "page_table_stride": table.shape[1],
        "seqlen_k": table.shape[1] * page_size,
        "page_size": page_size,
        "num_pages": num_pages,
    }
    return Call(problem, q, pages.k_pool, pages.v_pool, num_splits, **fields)


def paged_prefill(problem: Problem, q: torch.Tensor, pages: Pages) -> Call | None:
    """Equal lengths, whole pages, no splits."""
    loaded = library(problem)
    if loaded is None or not loaded.fa3_kernels() & PAGED_CAUSAL or problem.window_left >= 0:
        return None
    batch, kv_len = len(problem.qo_lens), problem.kv_lens[0]
    if not problem.is_uniform or not problem.causal or kv_len % pages.k_pool.shape[1]:
        return None
    if num_splits(problem, batch, kv_len, is_paged=True) > 1:
        return None
    return on_pages(problem, q.unflatten(0, (batch, -1)), pages, 1)


def decode(problem: Problem, q: torch.Tensor, pages: Pages) -> Call | None:
    """One query token a request over a paged cache, KV split as FA3 does."""
    loaded = library(problem)
    if loaded is None or not loaded.fa3_kernels() & DECODE:
        return None
    lengths = torch.tensor(problem.kv_lens, dtype=torch.int32, device=q.device)
    # With lengths on the device FA3 takes the splits of one request as the most there may be.
    splits = num_splits(problem, 1, max(problem.kv_lens), is_paged=True)
    if splits < 2:
        return None
    return on_pages(problem, q.unsqueeze(1), pages, splits, seqused_k=lengths)


def runner(calls: list[Call]) -> Callable[[int], None]:
    return lambda i: calls[i].run()
