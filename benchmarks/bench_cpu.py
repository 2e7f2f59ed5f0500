"""Quire's CPU backend beside PyTorch, or beside NumPy where PyTorch is not installed.

Only the ratio means something: times of one machine are not another's. Rounds are interleaved,
medians are reported, outputs are checked against NumPy in double first.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import quire

try:
    import torch
except ImportError:
    torch = None

ROUNDS = 20
MAX_ERROR = 1e-5


@dataclass
class CpuCase:
    name: str
    quire_run: Callable[[], np.ndarray]
    numpy_run: Callable[[], np.ndarray]
    torch_run: Callable[[], object]  # called only with PyTorch
    exact: np.ndarray  # double


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def rms_norm_case(rows: int, hidden: int) -> CpuCase:
    x, weight = random(rows, hidden), random(hidden)

    def normed(a: np.ndarray, w: np.ndarray) -> np.ndarray:
        return a / np.sqrt(np.square(a).mean(-1, keepdims=True) + a.dtype.type(1e-6)) * w

    return CpuCase(
        f"rms_norm {rows} x {hidden}",
        lambda: quire.rms_norm(x, weight),
        lambda: normed(x, weight),
        lambda: torch.nn.functional.rms_norm(
            torch.from_numpy(x), (hidden,), torch.from_numpy(weight), 1e-6
        ),
        normed(x.astype(np.float64), weight.astype(np.float64)),
    )


def softmax_case(rows: int, vocab: int) -> CpuCase:
    logits = random(rows, vocab)

    def softmax(a: np.ndarray) -> np.ndarray:
        powers = np.exp(a - a.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    return CpuCase(
        f"softmax {rows} x {vocab}",
        lambda: quire.softmax(logits),
        lambda: softmax(logits),
        lambda: torch.softmax(torch.from_numpy(logits), -1),
        softmax(logits.astype(np.float64)),
    )


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """One request, [tokens, heads, dim], the naive way."""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qhd,khd->hqk", q, k) / q.dtype.type(math.sqrt(q.shape[2]))
    if causal:
        hidden = np.triu(np.ones(scores.shape[1:], bool), scores.shape[2] - scores.shape[1] + 1)
        scores = np.where(hidden, -np.inf, scores)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", powers / powers.sum(-1, keepdims=True), v)


def attention_case(qo_len: int, kv_len: int, heads: tuple[int, int], dim: int) -> CpuCase:
    """One request, ragged; causal when it has several query tokens."""
    causal = qo_len > 1
    q = random(qo_len, heads[0], dim)
    k, v = random(kv_len, heads[1], dim), random(kv_len, heads[1], dim)[::-1].copy()
    engine = quire.BatchAttention("cpu")
    engine.plan(
        [0, qo_len],
        [0, kv_len],
        num_qo_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim_qk=dim,
        q_dtype="f32",
        causal=causal,
    )

    def torch_run() -> object:
        tensors = [torch.from_numpy(t).transpose(0, 1)[None] for t in (q, k, v)]
        return torch.nn.functional.scaled_dot_product_attention(
            *tensors, is_causal=causal, enable_gqa=True
        )

    return CpuCase(
        f"attention q {qo_len} kv {kv_len} heads {heads[0]}/{heads[1]} d{dim}",
        lambda: engine.run(q, k, v, causal=causal),
        lambda: attention(q, k, v, causal),
        torch_run,
        attention(*(t.astype(np.float64) for t in (q, k, v)), causal),
    )


def median_us(runs: list[Callable[[], object]]) -> list[float]:
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for samples, run in zip(times, runs):
            start = time.perf_counter()
            run()
            samples.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(samples) for samples in times]


def main() -> int:
    peer = "torch" if torch else "numpy"
    cases = [
        rms_norm_case(512, 4096),
        softmax_case(16, 32000),
        attention_case(1, 4096, (32, 8), 128),
        attention_case(256, 256, (8, 2), 64),
    ]
    wrong = 0
    print(f"{'case':44} {'quire us':>10} {peer + ' us':>10} {'ratio':>7} {'error':>8}")
    for case in cases:
        error = np.linalg.norm(case.quire_run() - case.exact) / np.linalg.norm(case.exact)
        if not error <= MAX_ERROR:
            print(f"{case.name:44} WRONG: error {error:.1e}")
            wrong += 1
            continue
        own_us, peer_us = median_us([case.quire_run, case.torch_run if torch else case.numpy_run])
        print(f"{case.name:44} {own_us:10.0f} {peer_us:10.0f} {peer_us / own_us:7.2f} {error:8.1e}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
