"""The benchmark page comes from the result files alone."""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))

import plot


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "ROOT", tmp_path)
    monkeypatch.setattr(plot, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(plot, "PAGE", tmp_path / "docs" / "benchmarks.md")
    monkeypatch.setattr(plot, "PLOTS", tmp_path / "docs" / "benchmarks")
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def row(impl, us, ratio):
    return {
        "family": "attention",
        "op": "decode",
        "shape": {"batch": 1, "num_qo_heads": 32, "num_kv_heads": 8, "head_dim": 128},
        "impl": impl,
        "us": us,
        "metric": {"tbps": 1.5},
        "ratio_best_peer": ratio,
        "ratio_limit": 0.5,
        "error": 2e-3,
        "device": "GPU <1>",
        "driver": "1",
        "commit": "abc",
    }


def test_page_and_plot(results):
    rows = [row("quire", 10.0, 2.0), row("peer", 20.0, 1.0)]
    (results / "gpu-attention.json").write_text(json.dumps(rows))
    outputs = plot.outputs_of_results()
    page = outputs[plot.PAGE]
    assert "| batch 1, heads 32/8, d128, " in page
    assert "| quire | 10.0 | 1.5 TB/s | 2.00 | 0.50 | 2.0e-03 |" in page
    (svg,) = [text for path, text in outputs.items() if path.suffix == ".svg"]
    ElementTree.fromstring(svg)
    assert outputs == plot.outputs_of_results()


def test_check_notices_a_stale_page(results, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plot.py"])
    assert plot.main() == 0
    monkeypatch.setattr(sys, "argv", ["plot.py", "--check"])
    assert plot.main() == 0
    (results / "gpu-attention.json").write_text(json.dumps([row("quire", 10.0, None)]))
    assert plot.main() == 1
