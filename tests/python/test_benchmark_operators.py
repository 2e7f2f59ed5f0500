"""What bench_elementwise.py times computes what it says, in Quire and in the peer."""

import pathlib
import sys

import pytest

torch = pytest.importorskip("torch")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import elementwise_ops  # noqa: E402


def error(values, exact):
    return float((values - exact).norm() / exact.norm())


@pytest.mark.parametrize("index", range(16))
def test_operator(monkeypatch, index):
    monkeypatch.setattr(elementwise_ops, "DEVICE", "cpu")
    torch.manual_seed(0)
    ops = elementwise_ops.small_ops()
    assert len(ops) == 16
    op = ops[index]
    inputs = op.make(3)
    exact = op.exact(*inputs)
    for run in (op.quire, op.torch):
        assert error(op.values(run(*inputs)), exact) <= op.error
