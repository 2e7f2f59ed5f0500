"""Prefill and decode beside cuDNN and FlashAttention-2, as PyTorch ships them.

usage: bench_attention.py [TEXT]   only the cases whose title contains TEXT; others keep their rows
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator

import quire
import torch
from attention_inputs import PagedBatch, checked_rows, exact_attention, indptr, paged_batch
from harness import Case, Implementation, finish, only, open_session, relative_error, run_case
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BF16_ERROR = 4e-3
HEAD_DIM = 128
DECODE_PAGE_SIZE = 16
GRAPH_COVER_BYTES = 200 << 20  # a graph rotates over KV-caches of at least this much together
PEERS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "fa2": SDPBackend.FLASH_ATTENTION}

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
PREFILL_PAGE_SIZES = (16, 64)
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


def peer_implementations(
    inputs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    causal: bool,
    error: Callable[[torch.Tensor], float],
    suffix: str = "",
) -> Iterator[Implementation]:
    """`inputs`: (q, k, v), each [batch, heads, tokens, head_dim]; `error` takes an output."""
    gqa = inputs[0][0].shape[1] != inputs[0][1].shape[1]
    for name, backend in PEERS.items():
        outputs = {}

        def run(i: int, backend=backend, outputs=outputs) -> None:
            q, k, v = inputs[i]
            with sdpa_kernel(backend):
                outputs[0] = scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=gqa)

        yield Implementation(name + suffix, run, lambda outputs=outputs: error(outputs[0]))


def prefill_case(
    batch: int, tokens: int, heads: tuple[int, int], head_dim: int, causal: bool, page_size: int = 0
) -> Case:
    num_qo_heads, num_kv_heads = heads
    paged = paged_batch([tokens] * batch, [tokens] * batch, heads, head_dim, page_size or tokens)
    q = paged.q
    k, v = (torch.cat(t) for t in zip(*(paged.contiguous(r) for r in range(batch))))
    rows = checked_rows(tokens)
    exact = torch.stack(
        [
            exact_attention(*(t[r * tokens : (r + 1) * tokens] for t in (q, k, v)), causal, rows)
            for r in range(batch)
        ]
    )
    own = torch.empty_like(q)
    attention = quire.BatchAttention("cuda:0")
    shape = {"num_qo_heads": num_qo_heads, "num_kv_heads": num_kv_heads, "head_dim_qk": head_dim}
    if page_size:
        attention.plan(
            paged.qo_indptr,
            paged.kv_indptr,
            paged.kv_indices,
            paged.kv_last_page_len,
            page_size=page_size,
            causal=causal,
            **shape,
        )
        keys, values = paged.k_pool, paged.v_pool
    else:
        attention.plan(paged.qo_indptr, indptr([tokens] * batch), causal=causal, **shape)
        keys, values = k, v

    def batched(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(0, (batch, tokens)).transpose(1, 2)

    def own_error() -> float:
        return relative_error(own.unflatten(0, (batch, tokens))[:, rows], exact)

    def peer_error(out: torch.Tensor) -> float:
        return relative_error(out.transpose(1, 2)[:, rows], exact)

    implementations = [
        Implementation(
            "quire", lambda _: attention.run(q, keys, values, own, causal=causal), own_error
        ),
        *peer_implementations([(batched(q), batched(k), batched(v))], causal, peer_error),
    ]
    label = {
        "batch": batch,
        "tokens": tokens,
        "num_qo_heads": num_qo_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "causal": causal,
        "page_size": page_size,
        "dtype": "bf16",
    }
    return Case(
        "attention",
        "prefill",
        label,
        implementations,
        BF16_ERROR,
        flops=4 * batch * num_qo_heads * tokens**2 * head_dim * (0.5 if causal else 1),
        bytes=2 * (2 * q.numel() + k.numel() + v.numel()),
    )


def planned(batch: PagedBatch, heads: tuple[int, int]) -> quire.BatchAttention:
    attention = quire.BatchAttention("cuda:0")
    attention.plan(
        batch.qo_indptr,
        batch.kv_indptr,
        batch.kv_indices.cuda(),
        batch.kv_last_page_len,
        num_qo_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim_qk=HEAD_DIM,
        page_size=DECODE_PAGE_SIZE,
    )
    return attention


def decode_case(label: dict, kv_lens: list[int], heads: tuple[int, int], graph: bool) -> Case:
    """One query token a request. With equal lengths the peers join in, on contiguous K and V."""
    count, (num_qo_heads, num_kv_heads) = len(kv_lens), heads
    kv_bytes = 4 * sum(kv_lens) * num_kv_heads * HEAD_DIM
    num_inputs = min(16, math.ceil(GRAPH_COVER_BYTES / kv_bytes) + 1) if graph else 1
    batches = [
        paged_batch([1] * count, kv_lens, heads, HEAD_DIM, DECODE_PAGE_SIZE)
        for _ in range(num_inputs)
    ]
    engines = [planned(batch, heads) for batch in batches]
    own = torch.empty_like(batches[0].q)
    first_row = torch.zeros(1, dtype=torch.long, device="cuda")
    exact = torch.cat(
        [
            exact_attention(batches[0].q[r : r + 1], *batches[0].contiguous(r), False, first_row)
            for r in range(count)
        ]
    )

    def run(i: int) -> None:
        engines[i].run(batches[i].q, batches[i].k_pool, batches[i].v_pool, own)

    def own_error() -> float:
        run(0)
        return relative_error(own, exact)

    implementations = [Implementation("quire", run, own_error)]
    if len(set(kv_lens)) == 1:
        implementations += decode_peers(batches, heads, exact)
    label |= {
        "num_qo_heads": num_qo_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": HEAD_DIM,
        "page_size": DECODE_PAGE_SIZE,
        "dtype": "bf16",
    }
    return Case(
        "attention",
        "decode_graph" if graph else "decode",
        label,
        implementations,
        BF16_ERROR,
        flops=4 * sum(kv_lens) * num_qo_heads * HEAD_DIM,
        bytes=kv_bytes + 4 * own.numel(),
        num_inputs=num_inputs,
        graph=graph,
    )


def decode_peers(
    batches: list[PagedBatch], heads: tuple[int, int], exact: torch.Tensor
) -> Iterator[Implementation]:
    """Each peer twice where heads share K and V: with the query heads as they are, and packed,
    that is with those that share a KV head as tokens of one head. Which is faster varies.
    """
    num_qo_heads, num_kv_heads = heads
    plain, packed = [], []
    for batch in batches:
        kv = [batch.contiguous(r) for r in range(len(batch.kv_lens))]
        k, v = (torch.stack(t).transpose(1, 2).contiguous() for t in zip(*kv))
        plain.append((batch.q.unsqueeze(2), k, v))
        packed.append((batch.q.unflatten(1, (num_kv_heads, num_qo_heads // num_kv_heads)), k, v))

    def error(out: torch.Tensor) -> float:
        return relative_error(out.reshape(exact.shape), exact)

    yield from peer_implementations(plain, False, error)
    if num_qo_heads != num_kv_heads:
        yield from peer_implementations(packed, False, error, " packed")


def cases() -> Iterator[Callable[[], Case]]:
    for shape in PREFILL:
        yield lambda shape=shape: prefill_case(*shape)
    for page_size in PREFILL_PAGE_SIZES:
        yield lambda page_size=page_size: prefill_case(4, 4096, (32, 8), 128, True, page_size)
    for batch, kv_len, heads, graph in DECODE:
        for as_graph in (False, True) if graph else (False,):
            yield lambda a=(batch, kv_len, heads, as_graph): decode_case(
                {"batch": a[0], "kv_len": a[1]}, [a[1]] * a[0], a[2], a[3]
            )
    uneven = [128 + (1024 - 128) * i // 62 for i in range(63)] + [65536]
    yield lambda: decode_case(
        {"batch": 64, "kv_len": "63 x 128..1024, 1 x 65536"}, uneven, (32, 8), False
    )


def main() -> int:
    torch.manual_seed(0)
    session = open_session()
    wanted = only(sys.argv)
    for build in cases():
        case = build()
        if wanted in f"{case.op} {case.shape}":
            run_case(case, session)
        del case
        torch.cuda.empty_cache()
    return finish(session, "attention", keep_others=bool(wanted))


if __name__ == "__main__":
    sys.exit(main())
