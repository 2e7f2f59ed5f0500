"""What the suites came to on a machine with a GPU: benchmarks/results/<device>-tests.json."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

from test_reports import Outcome


def first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else ""


def gpu_name_and_driver() -> tuple[str, str]:
    line = first_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = line.partition(",")
    return name.strip() or "unknown GPU", driver.strip() or "unknown"


def device_file_stem(name: str) -> str:
    """ "NVIDIA H100 80GB HBM3" -> "h100-80gb-hbm3"."""
    words = name.lower().removeprefix("nvidia").split()
    return "-".join(words) or "unknown"


def commit(root: pathlib.Path) -> str:
    """Of the bundle that BUILD_DIR is, whose sources may lie in a checkout of another commit, or of
    the checkout."""
    bundled = pathlib.Path(os.environ.get("BUILD_DIR", root / "build" / "gpu")) / "commit"
    if bundled.exists():
        return bundled.read_text().strip()
    return first_line("git", "-C", str(root), "rev-parse", "--short=12", "HEAD") or "unknown"


def write_summary(root: pathlib.Path, results: dict[str, Outcome]) -> pathlib.Path:
    name, driver = gpu_name_and_driver()
    summary = {
        "device": name,
        "driver": driver,
        "commit": commit(root),
        "suites": [
            {
                "suite": suite,
                "passed": outcome.passed,
                "failed": len(outcome.failed),
                "skipped": len(outcome.skipped),
                "seconds": round(outcome.seconds, 1),
                "failed_tests": outcome.failed,
                "skipped_tests": [[test, reason] for test, reason in outcome.skipped],
            }
            for suite, outcome in results.items()
        ],
    }
    path = root / "benchmarks" / "results" / f"{device_file_stem(name)}-tests.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"\nwritten: {path.relative_to(root)}")
    return path
