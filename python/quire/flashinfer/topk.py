"""FlashInfer's ``flashinfer.topk``.

Always deterministic: TopKTieBreak.NONE means SMALL, ``deterministic`` and ``dsa_graph_safe`` have
no effect (every call can be captured in a CUDA graph), and ``top_k`` sorts whether asked or not.
k is 2,048 at most: NotImplementedError beyond. Raises ValueError, TypeError.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Optional, Tuple

from .. import topk as _topk
from .._arrays import Array, arrays_of


class TopKTieBreak(IntEnum):
    """Which of equal elements at the boundary are taken: those with small or large indices."""

    NONE = 0
    SMALL = 1
    LARGE = 2


def _tie_break(value: int) -> str:
    return "highest_index" if TopKTieBreak(value) == TopKTieBreak.LARGE else "lowest_index"


def _i32(array: Optional[Array]) -> Optional[Array]:
    return None if array is None else arrays_of(array).cast(array, "i32")


def top_k(
    input: Array,
    k: int,
    sorted: bool = False,
    deterministic: bool = False,
    tie_break: int = TopKTieBreak.NONE,
    dsa_graph_safe: bool = False,
) -> Tuple[Array, Array]:
    """(values ``[n, k]``, int64 indices ``[n, k]``) of the k largest elements of each row."""
    values, indices = _topk.top_k(input, k, tie_break=_tie_break(tie_break))
    return values, arrays_of(indices).cast(indices, "i64")


topk = top_k


def top_k_page_table_transform(
    input: Array,
    src_page_table: Array,
    lengths: Array,
    k: int,
    row_to_batch: Optional[Array] = None,
    deterministic: bool = False,
    tie_break: int = TopKTieBreak.NONE,
    dsa_graph_safe: bool = False,
    row_starts: Optional[Array] = None,
    page_table_row_starts: Optional[Array] = None,
    *,
    page_size: int = 1,
    out: Optional[Array] = None,
    out_raw_indices: Optional[Array] = None,
) -> Array:
    """int32 ``[n, k]``: entries of the page table for the k largest of each row's first lengths[i]
    elements (from row_starts[i]), ascending by index, then -1."""
    return _topk.top_k_page_table_transform(
        input,
        _i32(src_page_table),
        _i32(lengths),
        k,
        row_to_batch=_i32(row_to_batch),
        row_starts=_i32(row_starts),
        page_table_row_starts=_i32(page_table_row_starts),
        page_size=page_size,
        tie_break=_tie_break(tie_break),
        out=out,
        raw_indices=out_raw_indices,
    )


def top_k_ragged_transform(
    input: Array,
    offsets: Array,
    lengths: Array,
    k: int,
    deterministic: bool = False,
    tie_break: int = TopKTieBreak.NONE,
    dsa_graph_safe: bool = False,
    row_starts: Optional[Array] = None,
) -> Array:
    """int32 ``[n, k]``: offsets[i] + index of the k largest of each row's first lengths[i] elements
    (from row_starts[i]), ascending, then -1."""
    windows = {"row_starts": _i32(row_starts), "tie_break": _tie_break(tie_break)}
    return _topk.top_k_ragged_transform(input, _i32(offsets), _i32(lengths), k, **windows)


def top_k_varlen(
    logits: Array,
    seq_lens: Array,
    top_k: int,
    pre_idx: Optional[Array] = None,
    compress_ratio: int = 1,
    next_n: int = 1,
    return_values: bool = False,
    out_indices: Optional[Array] = None,
    out_values: Optional[Array] = None,
    backend: str = "auto",
    load_balance: bool = True,
    workspace: Any = None,
) -> Tuple[Array, Optional[Array]]:
    """(int32 indices ``[n, top_k]``, values or None) of the largest of each row's first
    ``(seq_len - next_n + j + 1) // compress_ratio`` elements, sorted; -1 and -inf behind the
    last.

    logits: ``[n, len]``; seq_lens: int32 ``[n / next_n]``. The hint pre_idx, backend, load_balance
    and workspace choose nothing. Raises ValueError, TypeError.
    """
    names = ("auto", "radix", "gvr", "radix_cutlass")
    if backend not in names:
        raise ValueError(f"top_k_varlen: backend: got {backend!r}, expected one of {names}")
    values, indices = _topk.top_k(
        logits,
        top_k,
        lengths=seq_lens,
        next_n=next_n,
        compress_ratio=compress_ratio,
        values=out_values if return_values else None,
        indices=out_indices,
    )
    return indices, values if return_values else None
