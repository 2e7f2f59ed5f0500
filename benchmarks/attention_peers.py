"""Other attention kernels on the tensors of a problem: cuDNN and FA2 as PyTorch ships them, FA3."""

from __future__ import annotations

from collections.abc import Iterator

import fa3_peer
import torch
from attention_inputs import DEVICE, DTYPE, Pages, Problem, Reference, Tensors
from harness import Implementation
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SDPA = {"cudnn": SDPBackend.CUDNN_ATTENTION, "fa2": SDPBackend.FLASH_ATTENTION}
ALL = ("cudnn", "fa2", "fa3")
QKV = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def prefill_peers(
    problem: Problem, tensors: Tensors, reference: Reference, names: tuple[str, ...] = ALL
) -> Iterator[Implementation]:
    """Those of `names` that can compute the problem, on contiguous tensors."""
    is_square = problem.qo_lens == problem.kv_lens
    same_dims = problem.head_dim_vo == problem.head_dim_qk
    if problem.is_uniform and problem.window_left < 0:
        sets = [batched(problem, tensors)]
        is_simple = is_square or not problem.causal
        if "cudnn" in names:
            bias = None if is_simple else end_aligned_mask(problem)
            yield sdpa_implementation("cudnn", problem, sets, reference, bias)
        if "fa2" in names and is_simple and same_dims:
            yield sdpa_implementation("fa2", problem, sets, reference)
    if "fa2" in names and same_dims and not (problem.is_uniform and is_square):
        yield fa2_implementation(problem, tensors, reference)
    if "fa3" in names:
        yield from fa3_of_problem("fa3", problem, tensors, reference)


def end_aligned_mask(problem: Problem) -> torch.Tensor:
    """cuDNN under PyTorch aligns causal to the start; a bias [qo_len, kv_len] says the rest."""
    qo_len, kv_len = problem.qo_lens[0], problem.kv_lens[0]
    hidden = torch.ones(qo_len, kv_len, dtype=torch.bool, device=DEVICE).triu(kv_len - qo_len + 1)
    bias = torch.zeros(1, 1, qo_len, kv_len, dtype=DTYPE, device=DEVICE)
    return bias.masked_fill_(hidden, -torch.inf)


def batched(problem: Problem, tensors: Tensors) -> QKV:
    """As PyTorch takes them: [batch, heads, tokens, head_dim]; the memory stays as it is."""
    batch = len(problem.qo_lens)
    views = (t.unflatten(0, (batch, -1)) for t in (tensors.q, tensors.k, tensors.v))
    return tuple(view.transpose(1, 2) for view in views)


def sdpa_implementation(
    name: str,
    problem: Problem,
    sets: list[QKV],
    reference: Reference,
    bias: torch.Tensor | None = None,
    packed: bool = False,
) -> Implementation:
    """packed: q holds the heads that share a KV head as tokens of one head."""
    backend = SDPA[name]
    options = {
        "attn_mask": bias,
        "is_causal": problem.causal and bias is None,
        "enable_gqa": problem.num_qo_heads > problem.num_kv_heads and not packed,
    }
    outputs = {}

    def run(i: int) -> None:
        with sdpa_kernel(backend):
            outputs[0] = scaled_dot_product_attention(*sets[i], **options)

    def error() -> float:
        out = outputs[0] if packed else outputs[0].transpose(1, 2)
        return reference.error(out.reshape(-1, problem.num_qo_heads, problem.head_dim_vo))

    return Implementation(name + (" packed" if packed else ""), run, error)


def fa2_implementation(problem: Problem, tensors: Tensors, reference: Reference) -> Implementation:
    """Requests of any lengths; its causal is aligned to the end."""
    offsets = [t.to(tensors.q.device) for t in (tensors.qo_indptr, tensors.kv_indptr)]
    longest = (max(problem.qo_lens), max(problem.kv_lens))
    window = {}
    if problem.window_left >= 0:
        window = {"window_size_left": problem.window_left, "window_size_right": 0}
    outputs = {}

    def run(_: int) -> None:
        outputs[0] = torch.ops.aten._flash_attention_forward(
            *(tensors.q, tensors.k, tensors.v, *offsets, *longest, 0.0, problem.causal, False),
            **window,
        )[0]

    return Implementation("fa2", run, lambda: reference.error(outputs[0]))


def fa3_implementation(
    name: str, calls: list[fa3_peer.Call], reference: Reference
) -> Implementation:
    def error() -> float:
        return reference.error(calls[0].out.flatten(0, -3))

    return Implementation(name, fa3_peer.runner(calls), error)


def fa3_of_problem(
    name: str, problem: Problem, tensors: Tensors, reference: Reference
) -> Iterator[Implementation]:
    call = fa3_peer.prefill(problem, tensors)
    if call is not None:
        yield fa3_implementation(name, [call], reference)


def fa3_on_pages(
    name: str, problem: Problem, tensors: Tensors, pages: Pages, reference: Reference
) -> Iterator[Implementation]:
    call = fa3_peer.paged_prefill(problem, tensors.q, pages)
    if call is not None:
        yield fa3_implementation(name, [call], reference)


def decode_peers(
    problem: Problem, inputs: list[Tensors], pools: list[Pages], reference: Reference
) -> Iterator[Implementation]:
    """cuDNN and FA2 on KV of equal lengths, heads before tokens in memory, with the query heads as
    they are and packed (which is faster varies); FA3 on the pages."""
    group = problem.num_qo_heads // problem.num_kv_heads
    if problem.is_uniform:
        sets = [tuple(t.contiguous() for t in batched(problem, tensors)) for tensors in inputs]
        for name in SDPA:
            yield sdpa_implementation(name, problem, sets, reference)
        packed = [(q.squeeze(2).unflatten(1, (-1, group)), k, v) for q, k, v in sets]
        for name in SDPA if group > 1 else ():
            yield sdpa_implementation(name, problem, packed, reference, packed=True)
    calls = [fa3_peer.decode(problem, t.q, pages) for t, pages in zip(inputs, pools)]
    if all(calls):
        yield fa3_implementation("fa3", calls, reference)
