"""Page allocator of a paged KV-cache: host bookkeeping only."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence

import numpy as np

from ._arrays import to_host_int32
from ._library import library


class PageCopy(NamedTuple):
    """Copy the first `num_tokens` tokens of one page to another, in every layer, before writing."""

    from_page: int
    to_page: int
    num_tokens: int


class PageTable(NamedTuple):
    """Request r owns ``indices[indptr[r] : indptr[r + 1]]``; int32 NumPy arrays."""

    indptr: np.ndarray
    indices: np.ndarray
    last_page_len: np.ndarray


class KvPoolStats(NamedTuple):
    num_pages: int
    pages_free: int  # in no sequence and in no cached prefix
    pages_in_use: int  # referenced by at least one sequence
    pages_cached: int  # held only by the prefix tree: evictable
    pages_shared: int  # referenced by more than one sequence
    pages_saved: int  # page references that sharing avoided allocating, now
    prefix_hit_tokens: int  # tokens found by allocate(), since construction
    evictions: int  # pages evicted, since construction


class KvPool:
    """Hands out page ids: reference counts, copy-on-write fork, prefix reuse, LRU eviction.

    It owns no tensor. Not thread-safe. Every call succeeds or raises and changes nothing;
    exhaustion is MemoryError (with pages needed, free and evictable) and loses nothing. An unknown
    sequence is ValueError.
    """

    def __init__(self, num_pages: int, page_size: int) -> None:
        self._pool = library.kv_pool_create(num_pages, page_size)
        self._page_size = page_size

    def allocate(self, tokens: Any = ()) -> int:
        """A new sequence that starts with the longest cached prefix of `tokens` (whole pages,
        never all of them). :meth:`num_cached_tokens` says how many tokens need no prefill."""
        return library.kv_pool_allocate(
            self._pool, to_host_int32(tokens, "kv_pool.allocate", "tokens")
        )

    def append(self, sequence: int, tokens: Any) -> List[PageCopy]:
        """Makes room for `tokens` at the end. Returns the page copies to do before writing, when
        the last page was shared."""
        tokens = to_host_int32(tokens, "kv_pool.append", "tokens")
        return [PageCopy(*row) for row in library.kv_pool_append(self._pool, sequence, tokens)]

    def fork(self, sequence: int) -> int:
        """A second sequence with the same tokens and the same pages."""
        return library.kv_pool_fork(self._pool, sequence)

    def free(self, sequence: int) -> None:
        """Drops the sequence. Its full pages stay cached until they are needed."""
        library.kv_pool_free(self._pool, sequence)

    def cache_prefix(self, sequence: int) -> None:
        """Lets others share the sequence's full pages now. Call once their K/V are written."""
        library.kv_pool_cache_prefix(self._pool, sequence)

    def clear_prefixes(self) -> None:
        """Drops all cached prefixes that no sequence uses."""
        library.kv_pool_clear_prefixes(self._pool)

    @property
    def page_size(self) -> int:
        return self._page_size

    def num_tokens(self, sequence: int) -> int:
        return library.kv_pool_lengths(self._pool, sequence)[0]

    def num_cached_tokens(self, sequence: int) -> int:
        return library.kv_pool_lengths(self._pool, sequence)[1]

    def last_page_len(self, sequence: int) -> int:
        """Tokens in the last page; 0 for an empty sequence."""
        return library.kv_pool_lengths(self._pool, sequence)[2]

    def pages(self, sequence: int) -> np.ndarray:
        return np.from_dlpack(library.kv_pool_pages(self._pool, sequence))

    def stats(self) -> KvPoolStats:
        return KvPoolStats(*library.kv_pool_stats(self._pool))

    def table(self, sequences: Sequence[int]) -> PageTable:
        """The page table of a batch, in the order of `sequences`, for plan() and append."""
        arrays = library.kv_pool_table(self._pool, [int(s) for s in sequences])
        return PageTable(*(np.from_dlpack(a) for a in arrays))
