"""Prefill, mixed batches and decode beside cuDNN and FlashAttention-2, as PyTorch ships them.

usage: bench_attention.py [--list] [TEXT...]

Only the cases whose title contains every TEXT; the others keep their rows. --list prints titles.
FlashAttention-3 joins when QUIRE_FA3_LIBS names a folder with its libraries (fa3_peer.py), cases
with lengths of real requests when QUIRE_TRACES names one with the traces (traces.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import traces
from attention_cases import (
    FP8,
    attention_case,
    decode_case,
    fp8_case,
    invariant_case,
    shape_label,
    uniform,
)
from attention_inputs import DTYPE, Problem
from attention_peers import ALL
from cascade_case import cascade_case
from harness import Case, finish, is_wanted, open_session, run_case, write_rows

Heads = tuple[int, int]
DECODE_PAGE_SIZE = 16

# batch, tokens, (qo heads, kv heads), head_dim, causal
PREFILL = [
    *((b, s, (32, 32), 128, c) for c in (True, False) for b, s in ((16, 1024), (4, 4096))),
    *((1, 16384, (32, 32), 128, c) for c in (True, False)),
    *((b, s, (32, 8), 128, True) for b, s in ((16, 1024), (4, 4096), (1, 16384))),
    *(
        (4, 4096, heads, d, c)
        for heads, d in (((32, 8), 64), ((16, 16), 256))
        for c in (True, False)
    ),
]
PREFILL_PAGE_SIZES = (16, 64, 1)
PREFILL_FP8 = [
    *((1, 16384, heads, 128, c) for heads in ((32, 32), (32, 8)) for c in (True, False)),
    *((b, s, (32, 8), 128, True) for b, s in ((16, 1024), (4, 4096))),
    *((4, 4096, heads, d, True) for heads, d in (((32, 8), 64), ((16, 16), 256))),
]
CHUNKS, CACHES = (256, 512, 1024, 2048), (8192, 32768)  # new tokens after those of a cache
# trace: requests, longest prompt, decode requests, longest context of those
TRACES = {
    "azure_conv": (64, 16384, 256, 16384),
    "azure_code": (32, 16384, 256, 16384),
    "mooncake": (4, 32768, 48, 131072),
}
MIXED_CHUNK = 2048  # new tokens of a prompt that run along with decode requests
# batch, kv_len, heads, also as graph replays
DECODE = [
    (1, 8192, (32, 8), True),
    (16, 1024, (32, 8), True),
    (64, 2048, (32, 8), False),
    (128, 4096, (32, 8), False),
    (256, 1024, (32, 8), False),
    (1, 8192, (32, 32), True),
    (128, 4096, (32, 32), False),
    (128, 4096, (64, 8), False),
]
# What a GPU of eight that share a model has: batch, kv_len, heads.
DECODE_ONE_KV_HEAD = [
    (1, 8192, (8, 1)),
    (1, 32768, (8, 1)),
    (1, 131072, (8, 1)),
    (1, 32768, (16, 1)),
    (8, 4096, (8, 1)),
    (64, 4096, (8, 1)),
]
SPECULATIVE = [(16, 4, 1024), (64, 4, 2048), (64, 8, 2048)]  # batch, query tokens, kv_len
SHARED_PREFIX = [(64, 8192, 512)]  # batch, tokens that all share, own tokens
DECODE_INVARIANT = [(32, 4096), (64, 2048), (128, 4096), (256, 1024)]  # batch, kv_len
DECODE_FP8 = [(64, 2048, (32, 8)), (128, 4096, (32, 8)), (256, 1024, (32, 8)), (128, 4096, (32, 4))]
# What FlashInfer's own benchmarks run, in bf16.
FLASHINFER_PREFILL = ((128, 1024), (64, 2048), (32, 4096), (16, 8192), (1, 32768))
FLASHINFER_MIXED = [  # 128 decode requests: context; prompts: new tokens, all tokens
    (2048, [(512, 512)]),
    (2048, [(1536, 1536)]),
    (2048, [(2048, 2048)] * 2),
    (2048, [(2048, 2048)]),
    (4096, [(4096, 4096)]),
    (8192, [(4096, 4096)]),
    (8192, [(6000, 7000)]),
]
FLASHINFER_BATCH = (((32, 8), 128), ((64, 8), 128), ((64, 4), 64))
FLASHINFER_DECODE = [(b, s) for b in (1, 16, 128) for s in (512, 4096, 16384)] + [(512, 2048)]
FLASHINFER_WINDOW = [(q, kv) for q in (1, 16) for kv in (1024, 16384)]


@dataclass
class Planned:
    """A case that is not built yet: its title says whether it is wanted."""

    op: str
    sizes: dict[str, Any]
    problem: Problem
    page_sizes: tuple[int, ...] = (0,)  # 0: contiguous
    peers: tuple[str, ...] = ALL
    graph: bool = False
    shape: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = shape_label(self.sizes, self.problem, self.page_sizes[0])

    @property
    def title(self) -> str:
        return f"{self.op} " + " ".join(f"{key}={value}" for key, value in self.shape.items())

    def build(self) -> Case:
        if self.op == "cascade":
            prefix, page_size = self.sizes["prefix"], self.page_sizes[0]
            return cascade_case(self.op, self.shape, self.problem, prefix, page_size)
        if self.op == "decode_invariant":
            return invariant_case(self.op, self.shape, self.problem, self.page_sizes[0])
        if self.op.startswith("decode"):
            page_size = self.page_sizes[0]
            return decode_case(self.op, self.shape, self.problem, page_size, self.graph)
        if self.problem.kv_dtype != DTYPE:
            return fp8_case(self.op, self.shape, self.problem, self.peers)
        return attention_case(self.op, self.shape, self.problem, self.page_sizes, self.peers)


def square(op: str, batch: int, tokens: int, *problem: Any, **options: Any) -> Planned:
    sizes = {"batch": batch, "tokens": tokens}
    return Planned(op, sizes, uniform(batch, tokens, tokens, *problem), **options)


def prefill_cases() -> Iterator[Planned]:
    for shape in PREFILL:
        yield square("prefill", *shape)
    for page_size in PREFILL_PAGE_SIZES:
        yield square("prefill", 4, 4096, (32, 8), 128, True, page_sizes=(page_size, 0))
    for batch, tokens, *shape in PREFILL_FP8:
        problem = uniform(batch, tokens, tokens, *shape)
        sizes = {"batch": batch, "tokens": tokens}
        yield Planned("prefill_fp8", sizes, replace(problem, q_dtype=FP8, kv_dtype=FP8))
        yield Planned("prefill_fp8_kv", sizes, replace(problem, kv_dtype=FP8))
    for cache in CACHES:
        for tokens in CHUNKS:
            sizes = {"batch": 1, "tokens": tokens, "cache": cache}
            problem = uniform(1, tokens, cache + tokens, (32, 8), 128, True)
            yield Planned("prefill_chunk", sizes, problem, (DECODE_PAGE_SIZE, 0))


def ragged(qo_lens: list[int], kv_lens: list[int], heads: Heads, head_dim: int = 128) -> Problem:
    causal = max(qo_lens) > 1
    return Problem(tuple(qo_lens), tuple(kv_lens), *heads, head_dim, head_dim, causal)


def trace_cases() -> Iterator[Planned]:
    """Whole prompts, beside as many of one length that need about as much work; then decode and
    decode with a chunk of a prompt, at random points of the answers."""
    for name, (num_prompts, longest, num_decode, longest_context) in TRACES.items():
        requests = traces.lengths(name)
        if not requests:
            continue
        prompts = [prompt for prompt, _ in traces.draw(requests, num_prompts, longest)]
        like = math.sqrt(sum(n * n for n in prompts) / num_prompts)
        same = max(128, round(like / 128) * 128)
        label = f"{num_prompts} of {name}"
        yield Planned("prefill_varlen", {"tokens": label}, ragged(prompts, prompts, (32, 8)))
        equal = uniform(num_prompts, same, same, (32, 8), 128, True)
        yield Planned("prefill_varlen", {"tokens": f"{num_prompts} x {same}, as {label}"}, equal)
        drawn = traces.draw(requests, num_decode, longest_context, seed=1)
        contexts = [
            prompt + 1 + answer * i // num_decode for i, (prompt, answer) in enumerate(drawn)
        ]
        label, paged = f"{num_decode} of {name}", (DECODE_PAGE_SIZE,)
        once = ragged([1] * num_decode, contexts, (32, 8))
        yield Planned("decode", {"batch": num_decode, "kv_len": label}, once, paged)
        both = ragged([1] * num_decode + [MIXED_CHUNK], [*contexts, 2 * MIXED_CHUNK], (32, 8))
        yield Planned("mixed", {"decode": label, "chunk": MIXED_CHUNK}, both, paged)


def decode_cases() -> Iterator[Planned]:
    page_sizes = (DECODE_PAGE_SIZE,)
    for batch, kv_len, heads, graph in DECODE:
        for op in ("decode", "decode_graph") if graph else ("decode",):
            sizes, problem = {"batch": batch, "kv_len": kv_len}, (batch, 1, kv_len, heads, 128)
            as_graph = op == "decode_graph"
            yield Planned(op, sizes, uniform(*problem, False), page_sizes, graph=as_graph)
    for batch, kv_len, heads in DECODE_ONE_KV_HEAD:
        sizes, problem = {"batch": batch, "kv_len": kv_len}, (batch, 1, kv_len, heads, 128)
        yield Planned("decode_one_kv_head", sizes, uniform(*problem, False), page_sizes)
    uneven = [*(128 + (1024 - 128) * i // 62 for i in range(63)), 65536]
    sizes = {"batch": 64, "kv_len": "63 x 128..1024, 1 x 65536"}
    for heads in ((32, 8), (64, 4)):
        yield Planned("decode", sizes, ragged([1] * 64, uneven, heads), page_sizes)
    for batch, tokens, kv_len in SPECULATIVE:
        sizes = {"batch": batch, "tokens": tokens, "kv_len": kv_len}
        problem = uniform(batch, tokens, kv_len, (32, 8), 128, True)
        yield Planned("speculative", sizes, problem, (DECODE_PAGE_SIZE,))
    for batch, prefix, own in SHARED_PREFIX:
        sizes = {"batch": batch, "prefix": prefix, "own": own}
        problem = uniform(batch, 1, prefix + own, (32, 8), 128, False)
        yield Planned("cascade", sizes, problem, page_sizes)
    for batch, kv_len in DECODE_INVARIANT:
        sizes, problem = {"batch": batch, "kv_len": kv_len}, (batch, 1, kv_len, (32, 8), 128)
        yield Planned("decode_invariant", sizes, uniform(*problem, False), page_sizes)
    for batch, kv_len, heads in DECODE_FP8:
        problem = uniform(batch, 1, kv_len, heads, 128, False)
        problem = replace(problem, kv_dtype=torch.float8_e4m3fn)
        yield Planned("decode_fp8", {"batch": batch, "kv_len": kv_len}, problem, page_sizes)


def flashinfer_cases() -> Iterator[Planned]:
    for batch, tokens in FLASHINFER_PREFILL:
        peers = ("cudnn", "fa3")  # FA2 would take most of the time
        shape = (batch, tokens, (32, 32), 128, True)
        yield square("prefill_flashinfer", *shape, page_sizes=(0, 16, 1), peers=peers)
    yield square("prefill_flashinfer", 1, 1024, (64, 8), 128, True, page_sizes=(16, 0))
    yield square("prefill_flashinfer", 16, 1024, (128, 128), (192, 128), True)
    for tokens, kv_len in FLASHINFER_WINDOW:
        sizes = {"batch": 16, "tokens": tokens, "kv_len": kv_len}
        problem = uniform(16, tokens, kv_len, (32, 8), 64, True, 128)
        yield Planned("window_flashinfer", sizes, problem, (16,))
    for context, prompts in FLASHINFER_MIXED:
        new, all_tokens = ([tokens[i] for tokens in prompts] for i in (0, 1))
        problem = ragged([1] * 128 + new, [context] * 128 + all_tokens, (32, 8))
        sizes = {"decode": f"128 x {context}", "prompts": ", ".join(f"{a}/{b}" for a, b in prompts)}
        yield Planned("mixed_flashinfer", sizes, problem, (1, 16))
    for heads, head_dim in FLASHINFER_BATCH:
        problem = ragged([1] * 128 + [4096], [8192] * 129, heads, head_dim)
        sizes = {"decode": "128 x 8192", "prompts": "4096/8192"}
        yield Planned("mixed_flashinfer", sizes, problem, (1, 16))
    for batch, kv_len in FLASHINFER_DECODE:
        sizes, problem = {"batch": batch, "kv_len": kv_len}, (batch, 1, kv_len, (32, 4), 128, False)
        yield Planned("decode_flashinfer", sizes, uniform(*problem), (16,))
    sizes, problem = {"batch": 16, "kv_len": 1024}, uniform(16, 1, 1024, (64, 8), 128, False)
    yield Planned("decode_flashinfer", sizes, problem, (16,))


def cases() -> Iterator[Planned]:
    for group in (prefill_cases, trace_cases, decode_cases, flashinfer_cases):
        yield from group()


def main() -> int:
    wanted = [text for text in sys.argv[1:] if text != "--list"]
    chosen = [planned for planned in cases() if is_wanted(planned.title, wanted)]
    if "--list" in sys.argv:
        print("\n".join(planned.title for planned in chosen))
        return 0
    torch.manual_seed(0)
    session = open_session()
    for planned in chosen:
        try:
            run_case(planned.build(), session)
        except (NotImplementedError, RuntimeError, ValueError) as problem:
            print(f"{planned.title}\n  FAILED: {str(problem).splitlines()[0]}", flush=True)
            session.num_wrong += 1
        torch.cuda.empty_cache()
        write_rows(session, "attention", keep_others=True)  # a run that is cut short leaves these
    return finish(session, "attention", keep_others=bool(wanted))


if __name__ == "__main__":
    sys.exit(main())
