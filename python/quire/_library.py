"""Loads libquire_ffi.so and makes its errors Python's own."""

from __future__ import annotations

import os
from pathlib import Path

import tvm_ffi


def _library_path() -> Path:
    """The library of the installed package, or of a build tree named by QUIRE_LIBRARY_DIR."""
    build_tree = os.environ.get("QUIRE_LIBRARY_DIR")
    folder = Path(build_tree) if build_tree else Path(__file__).parent / "lib"
    path = folder / "libquire_ffi.so"
    if not path.exists():
        raise ImportError(
            f"quire: library: got no file {path}, expected the compiled library there: install the "
            "package with `pip install .`, or set QUIRE_LIBRARY_DIR to a build folder that has it"
        )
    return path


tvm_ffi.error.register_error("NotImplementedError", NotImplementedError)

# Kept for the life of the process: objects made by the library are destroyed by its code.
library = tvm_ffi.load_module(str(_library_path()))
