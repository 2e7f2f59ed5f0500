"""FlashInfer's ``flashinfer.concat_ops``."""

from __future__ import annotations

from .. import concat as _concat
from .._arrays import Array


def concat_mla_k(k: Array, k_nope: Array, k_rope: Array) -> None:
    """Writes k ``[n, heads, nope_dim + rope_dim]`` from k_nope ``[n, heads, nope_dim]`` and k_rope
    ``[n, 1, rope_dim]``, which all heads share; unlike FlashInfer any dims and dtype."""
    _concat.concat_mla_k(k_nope, k_rope, k)
