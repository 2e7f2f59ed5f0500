"""Putting keys together from their parts."""

from __future__ import annotations

from typing import Optional

from ._arrays import Array, export
from ._library import library
from ._outputs import Outputs

_concat_mla_k = library.concat_mla_k


def concat_mla_k(
    k_nope: Array, k_rope: Array, k: Optional[Array] = None, *, stream: Optional[int] = None
) -> Array:
    """``k[n, h]`` is ``k_nope[n, h]`` and then ``k_rope[n]``, which all heads share.

    k_nope ``[n, heads, nope_dim]``, k_rope ``[n, 1, rope_dim]`` or ``[n, rope_dim]``, k ``[n,
    heads, nope_dim + rope_dim]``; one dtype, any, last dimension contiguous. Raises ValueError for
    shapes, TypeError for dtypes.
    """
    outputs = Outputs("concat_mla_k", k_nope, stream)
    shape = (*k_nope.shape[:-1], k_nope.shape[-1] + k_rope.shape[-1])
    target = outputs.add("k", k, shape, outputs.arrays.dtype(k_nope))
    _concat_mla_k(export(k_nope), export(k_rope), target, outputs.stream)
    return outputs.results()[0]
