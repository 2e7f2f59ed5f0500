"""Checks that what the documentation names exists: files, commands, make targets and symbols.

Looks at README.md, CONTRIBUTING.md and docs/**/*.md, at links and at text in `backticks`; fenced
blocks are checked for `make` targets only. In a path, `<op>` and `*` stand for anything and
{a,b} for either. A symbol must occur as a word in some source file.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator

from source_tree import ROOT, source_files

SOURCE_SUFFIXES = {".h", ".cpp", ".cuh", ".py", ".pyi", ".cmake", ".txt", ".sh", ".toml", ".json"}
DOC_SUFFIXES = {".md"}
# Paths in prose may start at any of these.
BASES = ("", "src", "kernels", "include", "tests", "python", "tools", "emulator", "examples")
PATH = re.compile(r"^[\w.<>*{},/+-]+/?$")
FILE_ENDING = re.compile(r"\.(md|h|cpp|cuh|py|pyi|sh|json|svg|txt|toml|cmake|safetensors)$")
SYMBOL = re.compile(r"^[A-Za-z_][\w]*((::|\.)[A-Za-z_~][\w]*)*(\(.*\))?$")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
# Not in every tree: made by a build, a run on a GPU, or the user.
MADE_LATER = ("build/", ".venv", ".cache", "dist/", "benchmarks/results/", "~")
# Spellings that show a naming rule.
EXAMPLE_NAMES = {"snake_case", "PascalCase", "kConstant", "member_", "time_us"}


def documents(root: pathlib.Path) -> list[pathlib.Path]:
    return [root / name for name in ("README.md", "CONTRIBUTING.md") if (root / name).exists()] + [
        path for path in sorted((root / "docs").rglob("*.md"))
    ]


def source_words(root: pathlib.Path) -> set[str]:
    words: set[str] = set()
    for path in source_files(root):
        if path.suffix in SOURCE_SUFFIXES or path.name in ("Makefile", ".clang-format"):
            words.update(re.findall(r"\w+", path.read_text(errors="replace")))
            words.update(path.stem.split("."))
    tests = root / "tests"
    words.update(f"test_{path.name}" for path in tests.glob("*") if path.is_dir())
    return words | EXAMPLE_NAMES


def make_targets(root: pathlib.Path) -> set[str]:
    makefile = root / "Makefile"
    text = makefile.read_text() if makefile.exists() else ""
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


def expand_braces(text: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", text)
    if not match:
        return [text]
    before, after = text[: match.start()], text[match.end() :]
    return [
        out
        for option in match.group(1).split(",")
        for out in expand_braces(before + option + after)
    ]


def path_exists(root: pathlib.Path, document: pathlib.Path, text: str) -> bool:
    if text.startswith(MADE_LATER):
        return True
    pattern = re.sub(r"<[^>]*>", "*", text).strip("/")
    for option in expand_braces(pattern):
        places = [document.parent, *(root / base for base in BASES)]
        if not any(place.is_dir() and any(place.glob(option)) for place in places):
            return False
    return True


def problem_of(root: pathlib.Path, document: pathlib.Path, text: str, words: set[str]) -> str:
    """Why this backticked text is wrong, or an empty string."""
    first, _, rest = text.partition(" ")
    if first == "make" and re.match(r"^[a-z][a-z-]*$", rest):
        return "" if rest in make_targets(root) else f"no make target {rest}"
    if first == "quire" and rest:
        return "" if rest.split()[0] in words else f"no subcommand {rest.split()[0]}"
    if text.startswith(("http:", "https:", "-")):
        return ""
    if PATH.match(text) and ("/" in text.rstrip("/")[1:] or FILE_ENDING.search(text)):
        is_path = FILE_ENDING.search(text) or text.split("/")[0] in known_folders(root)
        if is_path and not path_exists(root, document, text):
            return f"no file {text}"
        return ""
    if SYMBOL.match(text):
        name = re.split(r"::|\.", text.split("(")[0])[-1].lstrip("~")
        return "" if name in words else f"no symbol {name}"
    return ""


def known_folders(root: pathlib.Path) -> set[str]:
    names = {path.name for path in root.iterdir() if path.is_dir()}
    return names | {
        path.name
        for base in ("src", "kernels")
        for path in (root / base).glob("*")
        if path.is_dir()
    }


def problems(root: pathlib.Path = ROOT) -> Iterator[str]:
    words = source_words(root)
    for document in documents(root):
        in_fence = False
        for number, line in enumerate(document.read_text().splitlines(), 1):
            where = f"{document.relative_to(root).as_posix()}:{number}"
            if line.lstrip().startswith("```"):
                in_fence = not in_fence
                continue
            if in_fence:
                match = re.match(r"\s*(make [a-z-]+)\b", line)
                found = [match.group(1)] if match else []
            else:
                found = re.findall(r"`([^`]+)`", line)
                for link in LINK.findall(line):
                    if not re.match(r"\w+:", link) and not (document.parent / link).exists():
                        yield f"{where}: no file {link}"
            for text in found:
                problem = problem_of(root, document, text.strip(), words)
                if problem:
                    yield f"{where}: {problem}"


def main() -> int:
    found = list(problems())
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
