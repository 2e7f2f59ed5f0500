"""FlashInfer's ``flashinfer.quantization``: bit packing."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from .. import quantize as _quantize
from .._arrays import Array, arrays_of


def packbits(x: Array, bitorder: str = "big") -> Array:
    """Eight truth values a byte, uint8 ``[ceil(n / 8)]``; bitorder "big" or "little"."""
    return _quantize.packbits(x, bitorder)


def segment_packbits(x: Array, indptr: Array, bitorder: str = "big") -> Tuple[Array, Array]:
    """Every segment ``x[indptr[r]:indptr[r + 1]]`` by itself: (bytes, their indptr).

    The size of the result is read from indptr, which waits for its device.
    """
    arrays = arrays_of(indptr)
    host = arrays.to_numpy(indptr).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum((np.diff(host) + 7) // 8)]).astype(np.int32)
    on_device = arrays.move(arrays.from_numpy(host, x), x)
    out_indptr = arrays.move(arrays.from_numpy(ends, x), x)
    num_bytes = int(ends[-1])
    packed = _quantize.segment_packbits(x, on_device, out_indptr, num_bytes, bitorder)
    return packed, out_indptr
