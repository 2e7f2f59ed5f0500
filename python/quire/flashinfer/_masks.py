"""Custom masks: booleans of every (row, token) pair, packed little-endian request by request."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from .._arrays import Array, arrays_of


def pack_custom_mask(
    op: str,
    custom_mask: Optional[Array],
    packed_custom_mask: Optional[Array],
    num_bits: np.ndarray,
    like: Array,
) -> Tuple[Optional[Array], Optional[Array]]:
    """(u8 bits, i32 byte offsets ``[batch + 1]``) on the device of `like`; Nones without a mask.

    custom_mask: bool ``[sum(num_bits)]``, packed here (on CUDA: by way of the host, which waits).
    packed_custom_mask: u8, each request padded to a whole byte; it wins when both are given.
    num_bits: rows x tokens of each request.
    """
    if custom_mask is None and packed_custom_mask is None:
        return None, None
    indptr = np.zeros(len(num_bits) + 1, np.int32)
    np.cumsum((num_bits + 7) // 8, out=indptr[1:])
    arrays = arrays_of(like)
    if packed_custom_mask is not None:
        packed = arrays.move(packed_custom_mask, like).reshape(-1)
        if packed.shape[0] < indptr[-1]:
            got, expected = f"{packed.shape[0]} bytes", f"{indptr[-1]}"
            raise ValueError(f"{op}: packed_custom_mask: got {got}, expected {expected}")
    else:
        mask = arrays_of(custom_mask).to_numpy(custom_mask).reshape(-1)
        if mask.size != num_bits.sum():
            got, expected = f"{mask.size} elements", f"sum(qo_len * kv_len) = {num_bits.sum()}"
            raise ValueError(f"{op}: custom_mask: got {got}, expected {expected}")
        segments = np.split(mask.astype(bool), np.cumsum(num_bits)[:-1])
        bits = np.concatenate([np.packbits(s, bitorder="little") for s in segments])
        packed = arrays.from_numpy(bits, like)
    return packed, arrays.from_numpy(indptr, like)
