"""Top-k + top-p sampling from f32 logits beside torch's sort, batch 1 to 512."""

from __future__ import annotations

import sys

import quire
import torch
from harness import Case, Implementation, finish, open_session, run_case

VOCAB = 128256
TOP_K = 50
TOP_P = 0.9
# A token whose inclusion hangs on rounding may be on either side.
MASS_TOLERANCE = 1e-5


def exact_sets(logits: torch.Tensor) -> torch.Tensor:
    """[rows, vocab]: which tokens may be drawn, in double: top-p within the top-k tokens."""
    probs = torch.softmax(logits.double(), -1)
    values, order = torch.sort(probs, dim=-1, descending=True, stable=True)
    values, order = values[:, :TOP_K], order[:, :TOP_K]
    before = values.cumsum(-1) - values
    inside = before < (TOP_P + MASS_TOLERANCE) * values.sum(-1, keepdim=True)
    allowed = torch.zeros_like(probs, dtype=torch.bool)
    return allowed.scatter_(-1, order, inside)


def torch_sample(logits: torch.Tensor) -> torch.Tensor:
    values, order = torch.sort(logits, -1, descending=True)
    values[:, TOP_K:] = float("-inf")
    probs = torch.softmax(values, -1)
    before = probs.cumsum(-1) - probs
    probs.masked_fill_(before >= TOP_P, 0)
    return order.gather(-1, torch.multinomial(probs, 1)).squeeze(-1)


def sampling_case(num_rows: int) -> Case:
    logits = torch.randn(num_rows, VOCAB, device="cuda") * 3
    allowed = exact_sets(logits)
    drawn = {}

    def outside(name: str) -> float:
        """Share of rows whose token is not in the exact set."""
        ids = drawn[name].long()
        return 1 - allowed.gather(-1, ids[:, None]).double().mean().item()

    def quire_run(_: int) -> None:
        drawn["quire"] = quire.top_k_top_p_sample(quire.softmax(logits), TOP_K, TOP_P, seed=1)

    def torch_run(_: int) -> None:
        drawn["torch"] = torch_sample(logits)

    return Case(
        "sampling",
        "top_k_top_p",
        {"rows": num_rows, "vocab": VOCAB, "top_k": TOP_K, "top_p": TOP_P, "dtype": "f32"},
        [
            Implementation("quire", quire_run, lambda: outside("quire")),
            Implementation("torch", torch_run, lambda: outside("torch")),
        ],
        error_limit=0.0,
        bytes=logits.numel() * 4,
    )


def main() -> int:
    torch.manual_seed(0)
    session = open_session()
    for num_rows in (1, 64, 512):
        run_case(sampling_case(num_rows), session)
    return finish(session, "sampling")


if __name__ == "__main__":
    sys.exit(main())
