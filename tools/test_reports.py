"""Counts of passed, failed and skipped tests, from GoogleTest's JSON and pytest's JUnit reports."""

from __future__ import annotations

import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What one suite, or a part of it, came to."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)  # names
    skipped: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    seconds: float = 0

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.seconds += other.seconds

    @property
    def count(self) -> int:
        return self.passed + len(self.failed) + len(self.skipped)


def read_gtest(path: pathlib.Path, log: str) -> Outcome:
    """`log` is the program's output: this version of GoogleTest has skip reasons only there."""
    outcome = Outcome()
    for name, test in gtest_cases(json.loads(path.read_text())):
        if test.get("status") == "NOTRUN":
            continue  # disabled, or another shard's
        if test.get("failures"):
            outcome.failed.append(name)
        elif test.get("result") == "SKIPPED":
            outcome.skipped.append((name, gtest_skip_reason(name, log)))
        elif test.get("result") == "COMPLETED":
            outcome.passed += 1
        else:
            outcome.failed.append(f"{name} (result {test.get('result')})")
    return outcome


def gtest_cases(report: dict) -> Iterator[tuple[str, dict]]:
    for suite in report["testsuites"]:
        for test in suite["testsuite"]:
            yield f"{suite['name']}.{test['name']}", test


def gtest_skip_reason(name: str, log: str) -> str:
    match = re.search(
        rf"\[ RUN      \] {re.escape(name)}\n(.*?)\[  SKIPPED \] {re.escape(name)}\b",
        log,
        re.DOTALL,
    )
    if not match:
        return "no reason given"
    lines = [
        line.strip()
        for line in match.group(1).splitlines()
        if line.strip() and not re.search(r": Skipped$", line)
    ]
    return " ".join(lines) or "no reason given"


def read_junit(path: pathlib.Path) -> Outcome:
    outcome = Outcome()
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif skipped is not None:
            outcome.skipped.append((name, skipped.get("message") or "no reason given"))
        else:
            outcome.passed += 1
    return outcome
