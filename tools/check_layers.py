"""Checks who includes whom, that hardware is touched in kernels/tile only, and the size limits.

Prints `path:line: text` for everything that breaks a rule and fails; sizes over the aim but under
the limit are listed with --warn.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from source_tree import ROOT, source_files

# What each room may include, as prefixes of the text between the quotes; its own is implied.
# "types" stands for what host and device share: kernels/**/*_types.h, *_layout.h, *_plan.h
# (planning code) and dtype.h.
ROOMS: dict[str, tuple[str, ...]] = {
    "include/quire": ("quire/",),
    "src/plan": ("types", "quire/error.h"),
    "src/core": ("quire/", "types"),
    "src/kv": ("quire/", "core/"),
    "src/jit": ("quire/", "core/", "types"),
    "src/cpu": ("quire/", "core/", "plan/", "types", "hwy/"),
    "src/cuda": ("quire/", "core/", "plan/", "jit/", "types"),
    "src/ops": ("quire/", "core/", "plan/", "cpu/", "cuda/", "types"),
    "src/cli": ("quire/", "core/", "plan/", "jit/", "cuda/", "cpu/", "types"),
    "python/src": ("quire/", "tvm/", "dlpack/"),
}
# Single files that reach further than their room, and why.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("src/core/device.cpp", "cuda/memory.h"): "Buffer and copy() exist on every device",
}

TYPES = re.compile(r"^(dtype\.h|[a-z0-9_]+/[a-z0-9_]+_(types|layout|plan)\.h)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
HARDWARE = re.compile(
    r"\b(asm|threadIdx|blockIdx|blockDim|gridDim|__shared__|__device__|__CUDA_ARCH__)\b"
    r"|\b__(sync|shfl)\w*|\batomic[A-Z]\w*\("
)
MAX_COLUMNS = 100


@dataclass(frozen=True)
class Finding:
    path: pathlib.Path
    line: int
    text: str
    is_error: bool = True

    def __str__(self) -> str:
        kind = "" if self.is_error else "warning: "
        return f"{self.path.as_posix()}:{self.line}: {kind}{self.text}"


@dataclass(frozen=True)
class Limits:
    file_aim: int
    file_limit: int
    function_aim: int
    function_limit: int


HOST = Limits(200, 400, 40, 80)
DEVICE = Limits(250, 500, 80, 150)


def room_of(path: pathlib.Path) -> str:
    return next((room for room in ROOMS if path.as_posix().startswith(room + "/")), "")


def own_prefix(room: str) -> str:
    return room.split("/")[-1] + "/"


def may_include(root: pathlib.Path, path: pathlib.Path, quote: str, header: str) -> bool:
    if path.parts[0] == "kernels":
        return quote == '"' and (root / "kernels" / header).exists()
    if (path.as_posix(), header) in EXCEPTIONS:
        return True
    room = room_of(path)
    if room == "include/quire":
        return header.startswith("quire/") if quote == '"' else is_standard(header)
    if not room or quote == "<":
        return not (room == "src/plan" and not is_standard(header))
    if "/" not in header and header != "dtype.h":
        return room == "python/src"  # the binding's own files, side by side
    allowed = (own_prefix(room), *ROOMS[room])
    if header.startswith("quire/") and "quire/" not in allowed:
        return header in allowed
    return any(header.startswith(prefix) for prefix in allowed if prefix != "types") or (
        "types" in allowed and bool(TYPES.match(header))
    )


def is_standard(header: str) -> bool:
    return "/" not in header and "." not in header


def strip_comment(line: str) -> str:
    return line.split("//", 1)[0]


def layer_findings(root: pathlib.Path, path: pathlib.Path, lines: list[str]) -> Iterator[Finding]:
    in_kernels = path.parts[0] == "kernels"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match and not may_include(root, path, *match.groups()):
            room = room_of(path) or "kernels"
            yield Finding(path, number, f"{room} may not include {match.group(2)}")
        if in_kernels and path.parts[1] != "tile":
            hardware = HARDWARE.search(strip_comment(line))
            if hardware:
                yield Finding(path, number, f"{hardware.group()} belongs into kernels/tile")


def size_findings(path: pathlib.Path, lines: list[str]) -> Iterator[Finding]:
    limits = DEVICE if path.parts[0] == "kernels" else HOST
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            yield Finding(path, number, f"{len(line)} columns, at most {MAX_COLUMNS}")
    if len(lines) > limits.file_aim:
        text = f"{len(lines)} lines, aim {limits.file_aim}, limit {limits.file_limit}"
        yield Finding(path, 1, text, is_error=len(lines) > limits.file_limit)
    functions = python_functions(lines) if path.suffix == ".py" else cpp_functions(lines)
    for start, length in functions:
        if length > limits.function_aim:
            text = f"function of {length} lines, aim {limits.function_aim}, limit "
            text += str(limits.function_limit)
            yield Finding(path, start, text, is_error=length > limits.function_limit)


def cpp_functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First line and length of functions at namespace level, as clang-format lays them out."""
    head, start = 0, None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_]", line):
            is_type = re.match(r"(namespace|struct|class|enum|union|using|extern) ?", line)
            head = 0 if is_type else number
        if start is None and head and ")" in line and line.endswith("{"):
            start = head
        elif line.startswith("}"):
            if start is not None:
                yield start, number - start + 1
            head, start = 0, None


def python_functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    start, end = None, 0
    for number, line in enumerate([*lines, "end"], 1):
        if line and not line[0].isspace() and not line.startswith(")"):
            if start is not None:
                yield start, end - start + 1
            start = number if line.startswith(("def ", "async def ")) else None
        if line.strip():
            end = number


def findings(root: pathlib.Path = ROOT) -> list[Finding]:
    found: list[Finding] = []
    for file in source_files(root):
        path = file.relative_to(root)
        if file.suffix not in {".h", ".cpp", ".cuh", ".py"}:
            continue
        lines = file.read_text().splitlines()
        if file.suffix != ".py":
            found += layer_findings(root, path, lines)
        found += size_findings(path, lines)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warn", action="store_true", help="also list sizes over the aim")
    args = parser.parse_args()
    found = findings()
    errors = [finding for finding in found if finding.is_error]
    for finding in found if args.warn else errors:
        print(finding)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
