"""Formats every C++ file of the project with clang-format; --check only says which would change."""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

from source_tree import ROOT, source_files

CPP_SUFFIXES = {".h", ".cpp", ".cuh"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    program = pathlib.Path(sys.executable).parent / "clang-format"
    files = [str(path) for path in source_files() if path.suffix in CPP_SUFFIXES]
    mode = ["--dry-run", "--Werror"] if args.check else ["-i"]
    return subprocess.run([str(program), *mode, *files], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
