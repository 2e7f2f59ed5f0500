// Page allocator of a paged KV-cache: reference counts, copy-on-write fork, prefix reuse through a
// radix tree over token ids, LRU eviction of unreferenced prefixes. Host bookkeeping only: it hands
// out page ids and says which pages must be copied; it owns no tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace quire {

using SequenceId = std::int64_t;

struct PageCopy {
  std::int32_t from_page;
  std::int32_t to_page;
  std::int32_t num_tokens;  // how many tokens of the page are in use
};

struct KvPoolStats {
  int num_pages = 0;
  int pages_free = 0;                  // in no sequence and in no cached prefix
  int pages_in_use = 0;                // referenced by at least one sequence
  int pages_cached = 0;                // held only by the prefix tree: evictable
  int pages_shared = 0;                // referenced by more than one sequence
  std::int64_t pages_saved = 0;        // page references that sharing avoided allocating, now
  std::int64_t prefix_hit_tokens = 0;  // tokens found by allocate(), since construction
  std::int64_t evictions = 0;          // pages evicted, since construction
};

// Not thread-safe. Every call either succeeds or throws and changes nothing: exhaustion
// (out_of_memory, text with pages needed, free and evictable) loses no sequence and no prefix.
class KvPool {
 public:
  KvPool(int num_pages, int page_size);
  ~KvPool();
  KvPool(KvPool&&) noexcept;
  KvPool& operator=(KvPool&&) noexcept;

  // A new sequence that starts with the longest cached prefix of `tokens` (whole pages, and never
  // all of `tokens`, so that there is always a token left to compute). num_cached_tokens(id) says
  // how many tokens need no prefill. Reserves no page beyond the prefix.
  SequenceId allocate(std::span<const std::int32_t> tokens = {});

  // Makes room for `tokens`, appended to the sequence. Returns the copy to do before writing when
  // the last page was shared (copy-on-write), or nothing.
  std::vector<PageCopy> append(SequenceId id, std::span<const std::int32_t> tokens);

  // A second sequence with the same tokens and the same pages.
  SequenceId fork(SequenceId id);

  // Drops the sequence. Its full pages stay in the prefix tree, evictable, until they are needed.
  // keep_prefix false: pages that are not in the tree yet do not enter it, for a sequence whose K/V
  // were not all written.
  void free(SequenceId id, bool keep_prefix = true);

  // Enters the sequence's full pages into the prefix tree now, so that others can share them while
  // it lives. Call once their K/V are written. Pages whose prefix is in the tree already are
  // given back for the tree's pages, so that pages(id) can change.
  void cache_prefix(SequenceId id);

  // Drops all cached prefixes that no sequence uses.
  void clear_prefixes();

  int page_size() const;
  int num_tokens(SequenceId id) const;
  int num_cached_tokens(SequenceId id) const;
  std::span<const std::int32_t> pages(SequenceId id) const;
  int last_page_len(SequenceId id) const;  // 0 for an empty sequence
  KvPoolStats stats() const;

  // The page table of a batch, in the order of `ids`, for plan() and append.
  struct Table {
    std::vector<std::int32_t> indptr, indices, last_page_len;
  };
  Table table(std::span<const SequenceId> ids) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
