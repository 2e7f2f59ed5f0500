"""Which builds and suites make up `make test`, `test-tsan`, `test-kernels` and `test-gpu`."""

from __future__ import annotations

import os
import pathlib
import sys
from dataclasses import dataclass, field, replace

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARCHITECTURES = ("sm_80", "sm_90a", "sm_100a", "sm_120a")
# Which of the listed kernels `make test` compiles: every 16th for each architecture, not the same.
# All of them take about three quarters of an hour on two cores.
TESTED_PARTS = {"sm_80": "1/16", "sm_90a": "2/16", "sm_100a": "3/16", "sm_120a": "4/16"}
EMULATOR_SHARDS = 2
GPU_SHARDS = 12  # mostly CPU time: references and compiling


@dataclass(frozen=True)
class Build:
    name: str
    command: list[str]
    timeout_s: float = 1200


@dataclass(frozen=True)
class Suite:
    name: str
    command: list[str]
    report: str = "gtest"  # "gtest", "pytest", or "check": the exit status is the result
    env: dict[str, str] = field(default_factory=dict)
    build: str = ""  # the Build it needs
    shards: int = 1  # processes that share a GoogleTest suite
    timeout_s: float = 900


def preset_build(preset: str, *arguments: str) -> Build:
    """`arguments`: CMake options (-D…), then targets; everything without targets."""
    return Build(preset, ["tools/build.sh", preset, *arguments])


def library_path(build_dir: pathlib.Path) -> str:
    return f"{build_dir}/lib:{build_dir}/src:{os.environ.get('LD_LIBRARY_PATH', '')}"


def cpp_suite(build_dir: pathlib.Path, room: str, device: str, **options) -> Suite:
    build = options.get("build", "release")
    label = f"{room} on {device}" + ("" if build == "release" else f", {build}")
    env = {"QUIRE_TEST_DEVICE": device, "OMP_WAIT_POLICY": "passive", **options.pop("env", {})}
    library_dir = build_dir / "lib"  # a bundle brings the libraries it needs along
    if library_dir.is_dir():
        env["LD_LIBRARY_PATH"] = library_path(build_dir)
    command = [str(build_dir / "tests" / f"test_{room}")]
    return Suite(label, command, env=env, **options)


def python_env(build_dir: pathlib.Path) -> dict[str, str]:
    """`import quire` from the sources, with the libraries of a build or of a bundle."""
    return {
        "PYTHONPATH": f"{ROOT}/python:{build_dir}/site",
        "QUIRE_LIBRARY_DIR": f"{build_dir}/python",
        "LD_LIBRARY_PATH": library_path(build_dir),
    }


def check(name: str, *command: str, **options) -> Suite:
    return Suite(name, list(command), report="check", **options)


def python_tool(name: str) -> str:
    return str(ROOT / ".venv" / "bin" / name)


def lint_suites() -> list[Suite]:
    python = sys.executable
    return [
        check("clang-format", python, "tools/format.py", "--check"),
        check("ruff check", python_tool("ruff"), "check", "."),
        check("ruff format", python_tool("ruff"), "format", "--check", "."),
        check("layers and sizes", python, "tools/check_layers.py"),
        check("documentation", python, "tools/check_docs.py"),
        check("benchmark page", python, "benchmarks/plot.py", "--check"),
    ]


def kernel_suites(quire: pathlib.Path, parts: dict[str, str]) -> list[Suite]:
    """`quire compile` fails for kernels that spill or need more shared memory than there is."""
    return [
        check(
            f"kernels compile for {arch} without spills (part {part})",
            *(str(quire), "compile", "--part", part, "--arch", arch, "--jobs", "1"),
            *("--out", "build/test_reports/kernels"),
            build="release",
            timeout_s=3600,  # all of one architecture: a quarter of an hour on an idle core
        )
        for arch, part in parts.items()
    ]


SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
# The released build runs these, which take half of the time.
LARGE_EXCLUDED = {
    "GTEST_FILTER": "-AcceptanceC.LongPrompts*:AcceptanceC.UniformBatches*:*AttentionMixed.*"
}
CPU_ROOMS = ("core", "plan", "kv")
SANITIZED_ROOMS = (*CPU_ROOMS, "ops", "emulated")


def emulated_suites(build_dir: pathlib.Path, **options) -> list[Suite]:
    """The primitives, and what differs on a device of compute capability 9.0."""
    filters = {
        ("emulated", "emulator"): "-Hopper*",
        ("emulated", "emulator90"): "Hopper*",
        ("ops", "emulator90"): "*Attention*:Acceptance*",
    }
    suites = []
    for (room, device), gtest_filter in filters.items():
        env = {"GTEST_FILTER": gtest_filter, **options.get("env", {})}
        suites.append(cpp_suite(build_dir, room, device, **{**options, "env": env}))
    return suites


def forced_suites(build_dir: pathlib.Path, **options) -> list[Suite]:
    """Attention by kernels that others go before."""
    suites = [forced_suite(build_dir, "emulator90", "sm90", "-*f8*", options)]
    # It has no queries of 8 bits.
    for device in ("emulator", "emulator90"):
        without_fp8_queries = "-*q_f8*:*decode_f8*:*mixed_f8*"
        suites.append(forced_suite(build_dir, device, "decode", without_fp8_queries, options))
    # Few rows by the kernels that the decode kernel goes before.
    suites.append(forced_suite(build_dir, "emulator", "sm80", "", options))
    return suites


def forced_suite(
    build_dir: pathlib.Path, device: str, kernel: str, excluded: str, options: dict
) -> Suite:
    """All of attention by one kernel, but for what it has not."""
    cases = (
        "*Attention.AgreesWithReference*:*AttentionDecode.AgreesWithReference*:Acceptance*"
        ":AttentionBatchInvariance*:AttentionDevicePlan*:AttentionPlanning*"
    )
    forced = {"GTEST_FILTER": cases + excluded, "QUIRE_FORCE_KERNEL": kernel}
    env = {**forced, **options.get("env", {})}
    suite = cpp_suite(build_dir, "ops", device, **{**options, "env": env})
    return replace(suite, name=suite.name.replace(device, f"{device} by {kernel}"))


def full_plan(build_dir: pathlib.Path) -> tuple[list[Build], list[Suite]]:
    sanitize = ROOT / "build" / "sanitize"
    # Kernels run in the sanitized build, which finds what the other would: but for those by force,
    # of which most have run by then.
    emulated = {"shards": EMULATOR_SHARDS}
    sanitized = {"build": "sanitize", "env": SANITIZER_ENV}
    released = {"build": "release"}
    suites = [  # the longest first
        cpp_suite(sanitize, "ops", "emulator", **sanitized, **emulated),
        *kernel_suites(build_dir / "src" / "cli" / "quire", TESTED_PARTS),
        *emulated_suites(sanitize, **sanitized),
        *forced_suites(build_dir, **released),
        cpp_suite(sanitize, "ops", "cpu", build="sanitize", env=SANITIZER_ENV | LARGE_EXCLUDED),
        *(cpp_suite(sanitize, room, "cpu", **sanitized) for room in CPU_ROOMS),
        cpp_suite(build_dir, "jit", "cpu", **released),
        cpp_suite(build_dir, "cuda", "emulator", **released),
        cpp_suite(build_dir, "ops", "cpu", **released),
        *(cpp_suite(build_dir, room, "cpu", **released) for room in (*CPU_ROOMS, "cli")),
        cpp_suite(build_dir, "examples", "cpu", **released),
        cpp_suite(  # the others of this room are too large for the emulator
            build_dir,
            "examples",
            "emulator",
            env={"GTEST_FILTER": "DeviceAgreement*"},
            **released,
        ),
        Suite(
            "Python",
            [sys.executable, "-m", "pytest", "-q", "tests/python"],
            report="pytest",
            build="release",
            env=python_env(build_dir),
        ),
        Suite(
            "tools", [sys.executable, "-m", "pytest", "-q", "tests/tools"], report="pytest", env={}
        ),
        check("find_package from outside", "tools/check_install.sh", build="release"),
        check("example paged_decode", f"{build_dir}/examples/paged_decode", build="release"),
        check("builds without CUDA", "true", build="no-cuda"),
        *lint_suites(),
    ]
    binding = ("-DQUIRE_BUILD_PYTHON=ON", f"-DPython_EXECUTABLE={sys.executable}")
    builds = [
        preset_build("release", *binding),
        preset_build("sanitize", *(f"test_{room}" for room in SANITIZED_ROOMS)),
        preset_build("no-cuda"),
    ]
    return builds, suites


def kernels_plan(build_dir: pathlib.Path) -> tuple[list[Build], list[Suite]]:
    every = dict.fromkeys(ARCHITECTURES, "1/1")
    return [preset_build("release")], kernel_suites(build_dir / "src" / "cli" / "quire", every)


def tsan_plan(_build_dir: pathlib.Path) -> tuple[list[Build], list[Suite]]:
    tsan = ROOT / "build" / "tsan"
    suites = [
        cpp_suite(tsan, "ops", "emulator", build="tsan", shards=EMULATOR_SHARDS, timeout_s=1800),
        *emulated_suites(tsan, build="tsan", timeout_s=1800),
        *forced_suites(tsan, build="tsan", timeout_s=1800),
    ]
    return [preset_build("tsan", "test_ops", "test_emulated")], suites


def gpu_plan(build_dir: pathlib.Path) -> tuple[list[Build], list[Suite]]:
    """On a machine with a GPU and no compiler: everything is in `build_dir` already."""
    device = os.environ.get("QUIRE_TEST_DEVICE", "cuda:0")
    program = {"QUIRE_TINYLLAMA": str(build_dir / "examples" / "tinyllama" / "tinyllama")}
    rooms = ("core", "jit", "cuda", "emulated", "ops", "examples")
    sharded = {"env": {**program, "OMP_NUM_THREADS": "2"}, "shards": GPU_SHARDS}
    suites = [
        cpp_suite(build_dir, room, device, **(sharded if room == "ops" else {"env": program}))
        for room in rooms
    ]
    suites.append(
        Suite(
            "Python",
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/python"],
            report="pytest",
            env={
                "QUIRE_TEST_DEVICE": device,
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX leaves memory to the other tests
                **python_env(build_dir),
            },
        )
    )
    return [], suites


def lint_plan(_build_dir: pathlib.Path) -> tuple[list[Build], list[Suite]]:
    return [], lint_suites()


PLANS = {
    "test": full_plan,
    "tsan": tsan_plan,
    "kernels": kernels_plan,
    "gpu": gpu_plan,
    "lint": lint_plan,
}
