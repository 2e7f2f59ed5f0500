"""The ``quire`` command: hands over to the program inside the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    program = Path(__file__).parent / "bin" / "quire"
    if not program.exists():
        sys.exit(f"quire: this installation has no command line program ({program} is missing)")
    os.execv(program, [str(program), *sys.argv[1:]])
