"""The files that belong to the project."""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = (
    *("benchmarks", "cmake", "docs", "emulator", "examples", "include", "kernels", "python"),
    *("src", "tests", "tools"),
)
GENERATED = {"__pycache__", "build", "model"}


def source_files(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """All files of the folders above and of the top folder, sorted; without build products."""
    files = [path for path in root.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [
            path
            for path in (root / folder).rglob("*")
            if path.is_file()
            and not GENERATED & set(path.relative_to(root).parts[:-1])
            and not any(part.endswith(".egg-info") for part in path.parts)
        ]
    return sorted(files)
