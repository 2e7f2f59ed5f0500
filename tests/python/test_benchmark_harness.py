"""What the benchmarks' harness keeps of what it measures."""

import json
import pathlib
import sys

import pytest

pytest.importorskip("torch")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import harness  # noqa: E402
from sm_clock import SmClock  # noqa: E402


@pytest.mark.parametrize(("mhz", "us"), [(1980, 7.0), (1395, 7.0), (510, 5.0)])
def test_throttled_cases_keep_their_rows(monkeypatch, tmp_path, mhz, us):
    def measured(time_us, clock):
        run = harness.Implementation("quire", lambda i: None, lambda: 0.0)
        case = harness.Case("family", "op", {"batch": 1}, [run], 1.0, bytes=1.0)
        session = harness.Session("H100", "1", "c", harness.Limits(1.0, 1.0), 132, clock)

        def measure(case, watch):
            watch()
            return [[time_us]]

        monkeypatch.setattr(harness, "measure", measure)
        harness.run_case(case, session)
        return harness.finish(session, "family")

    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness.torch.cuda, "synchronize", lambda: None)
    assert measured(5.0, SmClock(lambda: 1980, 1980)) == 0
    status = measured(7.0, SmClock(lambda: mhz, 1980))
    assert status == (1 if mhz == 510 else 0)
    (path,) = (tmp_path / "benchmarks" / "results").iterdir()
    assert [row["us"] for row in json.loads(path.read_text())] == [us]
