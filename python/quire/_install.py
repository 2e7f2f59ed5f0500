"""Makes ``import flashinfer`` give :mod:`quire.flashinfer`."""

from __future__ import annotations

import importlib
import sys

_SUBMODULES = ("activation", "cascade", "decode", "norm", "page", "prefill", "rope", "sampling")


def install_as_flashinfer() -> None:
    """Registers ``flashinfer`` and its submodules as aliases of :mod:`quire.flashinfer`.

    Call it before anything imports flashinfer. Calling it again does nothing. Raises RuntimeError
    when another flashinfer has been imported already, because its objects are then in use.
    """
    package = importlib.import_module("quire.flashinfer")
    present = sys.modules.get("flashinfer")
    if present is not None and present is not package:
        raise RuntimeError(
            "install_as_flashinfer: flashinfer: got another package imported already, expected to "
            "be called before any import of flashinfer"
        )
    sys.modules["flashinfer"] = package
    for name in _SUBMODULES:
        sys.modules[f"flashinfer.{name}"] = importlib.import_module(f"quire.flashinfer.{name}")
