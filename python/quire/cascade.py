"""Finding what the requests of a batch share: the levels of :meth:`BatchAttention.plan_cascade`."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from ._arrays import to_host_int32
from ._library import library
from .kv_pool import PageTable


class CascadeLevel(NamedTuple):
    """The groups of a level: their rows of q and their page table; int32 NumPy arrays."""

    qo_indptr: np.ndarray
    kv_indptr: np.ndarray
    kv_indices: np.ndarray
    kv_last_page_len: np.ndarray


def find_cascade(
    qo_indptr: Any,
    table: PageTable,
    page_size: int,
    *,
    min_shared_tokens: int = 256,
    max_levels: int = 2,
) -> List[CascadeLevel]:
    """Levels, first to last, of requests that share leading pages, as :meth:`KvPool.table` has
    them: as many levels of groups as there are, and the requests with the rest of their pages.

    A group is the longest run of neighbouring requests (in later levels: of one group) of which
    each shares min_shared_tokens with the next, in whole pages; it gets the pages that all of them
    share. A request keeps the tokens of its own rows, its last ones, so that the result of a causal
    run is that of plan() with `table`. Only neighbours are compared: let requests that share stand
    together. max_levels: with the requests' own.
    qo_indptr: ``[batch + 1]``, rows of q. Raises ValueError or TypeError for arrays that do not fit
    each other.
    """
    op = "find_cascade"
    arrays = (to_host_int32(a, op, name) for a, name in zip(table, PageTable._fields))
    found = library.find_cascade(
        to_host_int32(qo_indptr, op, "qo_indptr"), *arrays, page_size, min_shared_tokens, max_levels
    )
    return [CascadeLevel(*(np.from_dlpack(a) for a in level)) for level in found]


def given_or_found(
    op: str,
    levels: Optional[Sequence[Sequence[Any]]],
    qo_indptr: Any,
    table: Optional[PageTable],
    page_size: int,
    **search: int,
) -> Sequence[Sequence[Any]]:
    """levels, or where there are none those of table."""
    if (levels is None) == (table is None) or (qo_indptr is None) != (table is None):
        raise ValueError(f"{op}: levels: expected levels, or qo_indptr and table")
    return levels if table is None else find_cascade(qo_indptr, table, page_size, **search)
