"""Counting: every way a suite can end must show in the totals."""

import json
import sys

import pytest
import run_tests
from suites import Suite
from test_reports import read_gtest, read_junit

LOG = """[ RUN      ] Norm.OnGpu
norm_test.cpp:12: Skipped
needs a GPU

[  SKIPPED ] Norm.OnGpu (0 ms)
"""


def gtest_report(tmp_path, tests):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"testsuites": [{"name": "Norm", "testsuite": tests}]}))
    return path


def test_gtest_counts(tmp_path):
    run = {"status": "RUN", "result": "COMPLETED"}
    report = gtest_report(
        tmp_path,
        [
            {"name": "Good", **run},
            {"name": "Bad", **run, "failures": [{"failure": "x"}]},
            {"name": "OnGpu", "status": "RUN", "result": "SKIPPED"},
            {"name": "Off", "status": "NOTRUN", "result": "SUPPRESSED"},
        ],
    )
    outcome = read_gtest(report, LOG)
    assert outcome.passed == 1
    assert outcome.failed == ["Norm.Bad"]
    assert outcome.skipped == [("Norm.OnGpu", "needs a GPU")]


def test_junit_counts(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite><testcase classname='a' name='good'/>"
        "<testcase classname='a' name='bad'><failure message='x'/></testcase>"
        "<testcase classname='a' name='broken'><error message='x'/></testcase>"
        "<testcase classname='a' name='off'><skipped message='no torch'/></testcase>"
        "</testsuite></testsuites>"
    )
    outcome = read_junit(report)
    assert outcome.passed == 1
    assert outcome.failed == ["a.bad", "a.broken"]
    assert outcome.skipped == [("a.off", "no torch")]


def run_script(tmp_path, monkeypatch, script, **options):
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    suite = Suite("suite", [sys.executable, "-c", script], **options)
    return run_tests.run_suites([suite], workers=1)["suite"]


WRITE_REPORT = """
import json, sys
path = sys.argv[-1].split("json:")[1]
tests = [{"name": "Good", "status": "RUN", "result": "COMPLETED"}]
json.dump({"testsuites": [{"name": "Norm", "testsuite": tests[:COUNT]}]}, open(path, "w"))
"""


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("pass", "no usable report"),
        ("import os; os.abort()", "killed by signal"),
        (WRITE_REPORT.replace("COUNT", "1") + "sys.exit(1)", "exit code 1"),
        (WRITE_REPORT.replace("COUNT", "0"), "ran no test"),
        ("import time; time.sleep(30)", "ran past"),
    ],
)
def test_suite_that_ends_badly_fails(tmp_path, monkeypatch, script, why):
    outcome = run_script(tmp_path, monkeypatch, script, timeout_s=2)
    assert len(outcome.failed) == 1
    assert why in outcome.failed[0]


def test_good_suite_passes(tmp_path, monkeypatch):
    outcome = run_script(tmp_path, monkeypatch, WRITE_REPORT.replace("COUNT", "1"))
    assert (outcome.passed, outcome.failed) == (1, [])


def test_missing_program_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    outcome = run_tests.run_suites([Suite("s", [str(tmp_path / "none")])], workers=1)["s"]
    assert len(outcome.failed) == 1
