"""Runs the test suites and ends in one line: `N passed, N failed, N skipped`.

A suite that crashes, runs out of time, leaves no report or runs no test counts as one failed test.
Exit code 1 when anything failed. Logs and reports are left in build/test_reports.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

from suites import PLANS, Build, Suite
from test_reports import Outcome, read_gtest, read_junit

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "test_reports"
# Where the library looks for an NVRTC that came as a Python package.
PYTHON_ENVIRONMENT = {"VIRTUAL_ENV": sys.prefix} if sys.prefix != sys.base_prefix else {}


def run_logged(command: list[str], log: pathlib.Path, env: dict[str, str], timeout_s: float) -> str:
    """Runs the command; returns what went wrong, empty when nothing did."""
    with log.open("w") as out:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **PYTHON_ENVIRONMENT, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return f"ran past {timeout_s:.0f} s"
        except OSError as error:
            return str(error)
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return f"exit code {done.returncode}" if done.returncode else ""


def file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def print_tail(log: pathlib.Path, lines: int = 60) -> None:
    text = log.read_text(errors="replace").splitlines()
    print("\n".join(f"    | {line}" for line in text[-lines:]), flush=True)


def run_build(build: Build) -> tuple[Outcome, bool]:
    name = f"build {build.name}"
    start = time.monotonic()
    log = REPORTS / f"{file_name(name)}.log"
    problem = run_logged(build.command, log, {}, build.timeout_s)
    if problem:
        print(f"FAIL  {name}: {problem}")
        print_tail(log)
        return Outcome(failed=[name]), False
    seconds = time.monotonic() - start
    print(f"ok    {name} ({seconds:.0f} s)", flush=True)
    return Outcome(passed=1, seconds=seconds), True


def run_part(suite: Suite, shard: int) -> Outcome:
    """One shard of a suite: one process."""
    stem = file_name(suite.name) + (f".{shard}" if suite.shards > 1 else "")
    log, report = REPORTS / f"{stem}.log", REPORTS / f"{stem}.report"
    report.unlink(missing_ok=True)
    env, command = dict(suite.env), list(suite.command)
    if suite.report == "gtest":
        command.append(f"--gtest_output=json:{report}")
        if suite.shards > 1:
            env |= {"GTEST_TOTAL_SHARDS": str(suite.shards), "GTEST_SHARD_INDEX": str(shard)}
    elif suite.report == "pytest":
        command.append(f"--junitxml={report}")
    start = time.monotonic()
    problem = run_logged(command, log, env, suite.timeout_s)
    outcome = read_outcome(suite, report, log, problem)
    outcome.seconds = time.monotonic() - start
    if outcome.failed:
        print(f"FAIL  {suite.name}: {', '.join(outcome.failed[:8])}")
        print_tail(log)
    return outcome


def read_outcome(suite: Suite, report: pathlib.Path, log: pathlib.Path, problem: str) -> Outcome:
    if suite.report == "check":
        return Outcome(failed=[f"{suite.name} ({problem})"]) if problem else Outcome(passed=1)
    outcome = Outcome()
    try:
        text = log.read_text(errors="replace")
        outcome = read_gtest(report, text) if suite.report == "gtest" else read_junit(report)
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        problem = problem or f"no usable report: {error}"
        return Outcome(failed=[f"{suite.name} ({problem})"])
    # A report that looks clean beside a bad exit status hides a crash at the end.
    if problem and not outcome.failed:
        outcome.failed.append(f"{suite.name} ({problem})")
    if outcome.count == 0:
        outcome.failed.append(f"{suite.name} (ran no test)")
    return outcome


def run_suites(suites: list[Suite], workers: int) -> dict[str, Outcome]:
    results = {suite.name: Outcome() for suite in suites}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        parts = {
            pool.submit(run_part, suite, shard): suite
            for suite in suites
            for shard in range(suite.shards)
        }
        left = {suite.name: suite.shards for suite in suites}
        for part in concurrent.futures.as_completed(parts):
            name = parts[part].name
            results[name].add(part.result())
            left[name] -= 1
            if left[name] == 0 and not results[name].failed:
                done = results[name]
                print(f"ok    {name}: {done.passed} passed ({done.seconds:.0f} s)", flush=True)
    return results


def print_skipped(results: dict[str, Outcome]) -> None:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for suite, outcome in results.items():
        for name, reason in outcome.skipped:
            by_reason.setdefault((suite, reason), []).append(name)
    if by_reason:
        print("\nskipped:")
    for (suite, reason), names in by_reason.items():
        print(f"  {suite}: {reason}")
        for name in names:
            print(f"    {name}")


def print_failed(results: dict[str, Outcome]) -> None:
    failed = [(suite, name) for suite, outcome in results.items() for name in outcome.failed]
    if failed:
        print("\nfailed (logs in build/test_reports):")
    for suite, name in failed:
        print(f"  {suite}: {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=sorted(PLANS))
    parser.add_argument("--only", default="", help="suites whose name contains this text")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="suites at a time")
    parser.add_argument("--no-build", action="store_true", help="the build directories are ready")
    parser.add_argument("--list", action="store_true", help="print the suites and end")
    args = parser.parse_args()

    builds, suites = PLANS[args.plan](args.build_dir.resolve())
    suites = [suite for suite in suites if args.only in suite.name]
    wanted = {suite.build for suite in suites}
    builds = [] if args.no_build else [build for build in builds if build.name in wanted]
    if args.list:
        print("\n".join(suite.name for suite in suites))
        return 0

    REPORTS.mkdir(parents=True, exist_ok=True)
    results: dict[str, Outcome] = {}
    unbuilt = set()
    for build in builds:
        results[f"build {build.name}"], built = run_build(build)
        if not built:
            unbuilt.add(build.name)
    runnable = [suite for suite in suites if suite.build not in unbuilt]
    for suite in suites:
        if suite.build in unbuilt:
            results[suite.name] = Outcome(failed=[f"{suite.name} (not built)"])
    results |= run_suites(runnable, args.jobs)

    if args.plan == "gpu":
        from gpu_summary import write_summary

        write_summary(ROOT, results)
    print_skipped(results)
    print_failed(results)
    total = Outcome()
    for outcome in results.values():
        total.add(outcome)
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
