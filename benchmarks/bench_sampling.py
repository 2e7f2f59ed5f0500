"""Sampling, softmax, filters, logits processors, speculative sampling beside torch and FlashInfer.

A first argument runs only the cases whose title contains it; the others keep their rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import quire
import torch
from harness import Case, Implementation, finish, is_wanted, open_session, relative_error, run_case

try:
    import flashinfer
except ImportError:
    flashinfer = None

VOCAB = 128256
BATCHES = (1, 64, 512)
# A token whose inclusion hangs on rounding may be on either side.
MASS_TOLERANCE = 1e-5
# Elements that rounding of a sum moves in or out of a nucleus.
FILTER_ERROR = 1e-4


def random_logits(num_rows: int, vocab: int = VOCAB, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(num_rows, vocab, device="cuda") * scale


def exact_sets(
    logits: torch.Tensor,
    top_k: int | None,
    top_p: float | None,
    tolerance: float = MASS_TOLERANCE,
) -> torch.Tensor:
    """[rows, vocab]: which tokens may be drawn, in double: top-p within the top-k tokens."""
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    for row, marks in zip(logits, allowed):  # one by one: a sort in double needs much memory
        values, order = torch.sort(torch.softmax(row.double(), -1), descending=True, stable=True)
        values, order = values[:top_k], order[:top_k]
        before = values.cumsum(-1) - values
        p = 1.0 if top_p is None else top_p
        marks[order[before < (p + tolerance) * values.sum()]] = True
    return allowed


def torch_sample(logits: torch.Tensor, top_k: int | None, top_p: float | None) -> torch.Tensor:
    values, order = torch.sort(logits, -1, descending=True)
    if top_k is not None:
        values[:, top_k:] = float("-inf")
    probs = torch.softmax(values, -1)
    if top_p is not None:
        before = probs.cumsum(-1) - probs
        probs.masked_fill_(before >= top_p, 0)
    return order.gather(-1, torch.multinomial(probs, 1)).squeeze(-1)


def sampling_case(num_rows: int, top_k: int | None, top_p: float | None, scale: float) -> Case:
    logits = random_logits(num_rows, scale=scale)
    probs = torch.softmax(logits, -1)
    allowed = exact_sets(logits, top_k, top_p)
    drawn: dict[str, torch.Tensor] = {}

    def implementation(name: str, draw: Callable[[], Any]) -> Implementation:
        def run(_: int) -> None:
            drawn[name] = draw()

        def share_outside() -> float:
            ids = drawn[name].long()
            return 1 - allowed.gather(-1, ids[:, None]).double().mean().item()

        return Implementation(name, run, share_outside)

    filters = {"top_k": top_k, "top_p": top_p}
    implementations = [
        implementation("quire", lambda: quire.sample_from_logits(logits, **filters, seed=1)),
        implementation("quire from probs", lambda: quire.filtered_sample(probs, **filters, seed=1)),
        implementation("torch", lambda: torch_sample(logits, top_k, top_p)),
    ]
    if flashinfer is not None:
        peer = flashinfer.sampling
        calls = {
            (False, False): lambda: peer.sampling_from_logits(logits),
            (True, False): lambda: peer.top_k_sampling_from_probs(peer.softmax(logits), top_k),
            (False, True): lambda: peer.top_p_sampling_from_probs(peer.softmax(logits), top_p),
            (True, True): lambda: peer.top_k_top_p_sampling_from_logits(logits, top_k, top_p),
        }
        call = calls[top_k is not None, top_p is not None]
        implementations.append(implementation("flashinfer", call))
    names = [name for name, value in filters.items() if value is not None]
    shape = {"rows": num_rows, "vocab": VOCAB, **{n: filters[n] for n in names}, "scale": scale}
    return Case(
        "sampling",
        "_".join(names) or "sample",
        {**shape, "dtype": "f32"},
        implementations,
        error_limit=0.0,
        bytes=logits.numel() * 4,
    )


def mapped_case(op: str, shape: dict, runs: dict, expected: torch.Tensor, num_bytes: int) -> Case:
    """Implementations that return a tensor to compare with `expected`, in double."""
    outputs: dict[str, torch.Tensor] = {}

    def implementation(name: str, call: Callable[[], torch.Tensor]) -> Implementation:
        def run(_: int) -> None:
            outputs[name] = call()

        def error() -> float:
            out = outputs[name].double()
            finite = torch.isfinite(expected)
            if not torch.equal(finite, torch.isfinite(out)):
                return math.inf
            return relative_error(out[finite], expected[finite])

        return Implementation(name, run, error)

    implementations = [implementation(name, call) for name, call in runs.items()]
    return Case("sampling", op, shape, implementations, FILTER_ERROR, bytes=num_bytes)


def softmax_case(num_rows: int, vocab: int) -> Case:
    logits = random_logits(num_rows, vocab)
    runs = {
        "quire": lambda: quire.softmax(logits),
        "torch": lambda: torch.softmax(logits, -1),
    }
    if flashinfer is not None:
        runs["flashinfer"] = lambda: flashinfer.sampling.softmax(logits)
    expected = torch.softmax(logits.double(), -1)
    shape = {"rows": num_rows, "vocab": vocab, "dtype": "f32"}
    return mapped_case("softmax", shape, runs, expected, logits.numel() * 8)


def log_probs_case(num_rows: int, vocab: int) -> Case:
    logits = random_logits(num_rows, vocab)
    ids = torch.randint(vocab, (num_rows, 1), dtype=torch.int32, device="cuda")
    long_ids = ids.long()
    runs = {
        "quire": lambda: quire.token_log_probs(logits, ids),
        "torch": lambda: torch.log_softmax(logits, -1).gather(1, long_ids),
    }
    expected = torch.log_softmax(logits.double(), -1).gather(1, long_ids)
    shape = {"rows": num_rows, "vocab": vocab, "dtype": "f32"}
    return mapped_case("token_log_probs", shape, runs, expected, logits.numel() * 4)


def renorm_case(num_rows: int, top_k: int | None, top_p: float | None) -> Case:
    logits = random_logits(num_rows)
    probs = torch.softmax(logits, -1)
    filters = {k: v for k, v in (("top_k", top_k), ("top_p", top_p)) if v is not None}

    def torch_renorm() -> torch.Tensor:
        values, order = torch.sort(probs, -1, descending=True)
        if top_k is not None:
            values[:, top_k:] = 0
        if top_p is not None:
            values.masked_fill_(values.cumsum(-1) - values >= top_p, 0)
        values /= values.sum(-1, keepdim=True)
        return torch.zeros_like(probs).scatter_(-1, order, values)

    kept = exact_sets(probs.double().log(), top_k, top_p, tolerance=0)
    expected = torch.where(kept, probs.double(), 0.0)
    expected /= expected.sum(-1, keepdim=True)
    runs = {"quire": lambda: quire.renorm_probs(probs, **filters), "torch": torch_renorm}
    if flashinfer is not None:
        name = "top_k_renorm_probs" if top_p is None else "top_p_renorm_probs"
        runs["flashinfer"] = lambda: getattr(flashinfer.sampling, name)(probs, *filters.values())
    shape = {"rows": num_rows, "vocab": VOCAB, **filters, "dtype": "f32"}
    return mapped_case("renorm_probs", shape, runs, expected, probs.numel() * 8)


def mask_case(num_rows: int, top_k: int) -> Case:
    logits = random_logits(num_rows)
    threshold = torch.topk(logits, top_k).values[:, -1:]
    expected = logits.masked_fill(logits < threshold, float("-inf")).double()
    runs = {
        "quire": lambda: quire.top_k_mask_logits(logits, top_k),
        "torch": lambda: logits.masked_fill(
            logits < torch.topk(logits, top_k).values[:, -1:], float("-inf")
        ),
    }
    if flashinfer is not None:
        runs["flashinfer"] = lambda: flashinfer.sampling.top_k_mask_logits(logits, top_k)
    shape = {"rows": num_rows, "vocab": VOCAB, "top_k": top_k, "dtype": "f32"}
    return mapped_case("top_k_mask_logits", shape, runs, expected, logits.numel() * 8)


def processors_case(num_rows: int) -> Case:
    """Penalties and a grammar mask, as an engine with output counts applies them."""
    logits = random_logits(num_rows)
    counts = (torch.rand(num_rows, VOCAB, device="cuda") < 0.01).int()
    bits = torch.rand(num_rows, VOCAB, device="cuda") < 0.5
    weights = 2 ** torch.arange(32, device="cuda", dtype=torch.int64)
    words = (bits.view(num_rows, -1, 32).long() * weights).sum(-1)
    mask = torch.where(words >= 2**31, words - 2**32, words).int()

    def process(x: torch.Tensor) -> torch.Tensor:
        seen = counts > 0
        x = torch.where(seen, torch.where(x > 0, x / 1.1, x * 1.1), x)
        x = (x - 0.2 * counts - 0.3 * seen) / 0.8
        return x.masked_fill(~bits, float("-inf"))

    runs = {
        "quire": lambda: quire.apply_logits_processors(
            logits,
            output_counts=counts,
            repetition_penalty=1.1,
            frequency_penalty=0.2,
            presence_penalty=0.3,
            temperature=0.8,
            allowed_mask=mask,
        ),
        "torch": lambda: process(logits),
    }
    shape = {"rows": num_rows, "vocab": VOCAB, "dtype": "f32"}
    expected = process(logits.double())
    num_bytes = logits.numel() * 12 + mask.numel() * 4
    return mapped_case("apply_logits_processors", shape, runs, expected, num_bytes)


def sample_processed_case(num_rows: int) -> Case:
    """Penalties, a mask and a draw: as one call, and as two. The logits are processed in place, so
    they drift; tokens are looked at after the last run."""
    logits = {name: random_logits(num_rows).bfloat16() for name in ("quire", "two calls", "torch")}
    counts = (torch.rand(num_rows, VOCAB, device="cuda") < 0.01).int()
    bits = torch.rand(num_rows, VOCAB, device="cuda") < 0.5
    weights = 2 ** torch.arange(32, device="cuda", dtype=torch.int64)
    words = (bits.view(num_rows, -1, 32).long() * weights).sum(-1)
    mask = torch.where(words >= 2**31, words - 2**32, words).int()
    processors = {
        "output_counts": counts,
        "presence_penalty": 0.01,
        "frequency_penalty": 0.01,
        "allowed_mask": mask,
    }
    filters = {"top_k": 50, "top_p": 0.9, "temperature": 0.8, "seed": 1}
    drawn: dict[str, torch.Tensor] = {}

    def one_call(x: torch.Tensor) -> torch.Tensor:
        return quire.sample_processed(x, x, **processors, **filters)

    def two_calls(x: torch.Tensor) -> torch.Tensor:
        quire.apply_logits_processors(x, **processors, out=x)
        return quire.sample_from_logits(x, **filters)

    def torch_calls(x: torch.Tensor) -> torch.Tensor:
        x -= 0.01 * counts + 0.01 * (counts > 0)
        x.masked_fill_(~bits, float("-inf"))
        return torch_sample(x.float() / 0.8, 50, 0.9)

    def implementation(name: str, draw: Callable[[torch.Tensor], torch.Tensor]) -> Implementation:
        def run(_: int) -> None:
            drawn[name] = draw(logits[name])

        def share_outside() -> float:
            return 1 - bits.gather(-1, drawn[name].long()[:, None]).double().mean().item()

        return Implementation(name, run, share_outside)

    runs = {"quire": one_call, "two calls": two_calls, "torch": torch_calls}
    return Case(
        "sampling",
        "sample_processed",
        {"rows": num_rows, "vocab": VOCAB, "top_k": 50, "top_p": 0.9, "dtype": "bf16"},
        [implementation(name, run) for name, run in runs.items()],
        error_limit=0.0,
        bytes=counts.numel() * 8 + mask.numel() * 4,
    )


def chain_case(batch: int, vocab: int, drafts: int) -> Case:
    """The draft is the target: every token is accepted, and the last row is drawn from."""
    target = torch.softmax(torch.randn(batch, drafts + 1, vocab, device="cuda"), -1)
    draft = target[:, :drafts].contiguous()
    ids = torch.multinomial(draft.view(-1, vocab), 1).view(batch, drafts).int()
    outputs: dict[str, torch.Tensor] = {}

    def implementation(name: str, call: Callable[[], torch.Tensor]) -> Implementation:
        def run(_: int) -> None:
            outputs[name] = call()

        def error() -> float:
            return (outputs[name][:, :drafts] != ids).double().mean().item()

        return Implementation(name, run, error)

    implementations = [
        implementation(
            "quire", lambda: quire.chain_speculative_sampling(draft, ids, target, seed=1)
        )
    ]
    if flashinfer is not None:
        peer = flashinfer.sampling.chain_speculative_sampling
        implementations.append(implementation("flashinfer", lambda: peer(draft, ids, target)[0]))
    shape = {"batch": batch, "vocab": vocab, "drafts": drafts, "dtype": "f32"}
    num_bytes = batch * vocab * 4
    return Case("sampling", "chain_speculative", shape, implementations, 0.0, bytes=num_bytes)


def cases() -> list[Callable[[], Case]]:
    """Shapes of the best-known sampling benchmarks; each is built when it runs."""
    found: list[Callable[[], Case]] = []
    for rows in BATCHES:
        found.append(lambda r=rows: sampling_case(r, 50, 0.9, 3.0))
    for rows in BATCHES:
        for top_k, top_p, scale in (
            (None, None, 1.0),
            (10, None, 1.0),
            (1000, None, 1.0),
            (5000, None, 1.0),
            (None, 0.1, 1.0),
            (None, 0.9, 1.0),
            (None, 0.9, 5.0),
            (100, 0.5, 5.0),
        ):
            found.append(lambda r=rows, k=top_k, p=top_p, s=scale: sampling_case(r, k, p, s))
        found.append(lambda r=rows: processors_case(r))
        found.append(lambda r=rows: sample_processed_case(r))
        found.append(lambda r=rows: renorm_case(r, 100, None))
        found.append(lambda r=rows: renorm_case(r, 5000, None))
        found.append(lambda r=rows: renorm_case(r, None, 0.9))
        found.append(lambda r=rows: mask_case(r, 1000))
    for rows, vocab in ((1, VOCAB), (32, 32000), (128, 64000), (64, VOCAB), (512, VOCAB)):
        found.append(lambda r=rows, v=vocab: softmax_case(r, v))
    found.append(lambda: softmax_case(128, 256000))
    for rows in (1, 64, 512):
        found.append(lambda r=rows: log_probs_case(r, VOCAB))
    found.append(lambda: chain_case(16, 32000, 5))
    found.append(lambda: chain_case(32, VOCAB, 8))
    return found


def main() -> int:
    torch.manual_seed(0)
    session = open_session()
    wanted = sys.argv[1:2]
    for build in cases():
        case = build()
        title = f"{case.op} " + " ".join(f"{key}={value}" for key, value in case.shape.items())
        if is_wanted(title, wanted):
            run_case(case, session)
    return finish(session, "sampling", keep_others=bool(wanted))


if __name__ == "__main__":
    sys.exit(main())
