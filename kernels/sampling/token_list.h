// The largest tokens of a row as a sorted list in the shared memory of one block: what is left to
// do when top-k keeps only a few.
#pragma once

#include "sampling/row_search.h"
#include "sampling/sort_list.h"

namespace quire::kernels {

constexpr u64 list_entry(u32 key, i32 index) { return join_words(key, ~static_cast<u32>(index)); }
constexpr u32 entry_key(u64 entry) { return static_cast<u32>(entry >> 32); }
constexpr i32 entry_index(u64 entry) { return static_cast<i32>(~static_cast<u32>(entry)); }

// All entries that `entry(index, key)` gives other than 0 for what each(visit) visits in this
// block, in the first block's `list`, unsorted. `list` is at the same place
// in every block, and nobody uses it. Returns their number; when that is more than kListCapacity,
// there is no list. Other blocks than the first may end then.
template <RowConfig c, class Each, class Entry>
inline int gather_list(ClusterRow<c>& row, u64* list, Each&& each, Entry&& entry) {
  auto* count = reinterpret_cast<u32*>(&row.memory.list_size);
  tile::sync_diverged_block();
  if (tile::thread_index() == 0) *count = 0;
  tile::sync_diverged_block();
  each([&](i32 i, u32 key) {
    const u64 x = entry(i, key);
    if (x == 0) return;
    const u32 place = tile::atomic_add(count, 1u);
    if (place < kListCapacity) list[place] = x;
  });
  tile::sync_diverged_block();
  const auto mine = static_cast<int>(*count);
  const ClusterSum sum = row.cluster_sum(static_cast<u64>(mine));
  if constexpr (c.cluster > 1) {
    u64* all = ClusterRow<c>::of_block(list, 0);
    if (!row.is_leader() && sum.total <= kListCapacity) {
      for (int i = tile::thread_index(); i < mine; i += c.threads) {
        all[static_cast<int>(sum.before) + i] = list[i];
      }
    }
    row.sync();
  }
  return static_cast<int>(sum.total);
}

// A list's entries dealt out to the threads, as runs.
template <int threads>
struct ListRun {
  int first, last;
  explicit ListRun(int size) {
    const int run = tile::ceil_div(size, threads);
    first = tile::min_of(tile::thread_index() * run, size);
    last = tile::min_of(first + run, size);
  }
};

// The entry at which the running sum of weight(key) over the first `size` reaches `needed`, from 1
// to their total; the sum through it is in memory.found.
template <RowConfig c, class Weight>
inline int find_entry(ClusterRow<c>& row, int size, u64 needed, u64 before, u64 mine,
                      Weight&& weight) {
  if (before < needed && needed <= before + mine) {
    const ListRun<c.threads> run(size);
    int i = run.first;
    u64 sum = before;
    while ((sum += weight(entry_key(row.search().list[i]))) < needed) ++i;
    row.memory.place = static_cast<u64>(i);
    row.memory.found[0] = sum;
  }
  tile::sync_diverged_block();
  return static_cast<int>(row.memory.place);
}

template <RowConfig c, class Weight>
inline PrefixSum list_sums(ClusterRow<c>& row, int size, Weight&& weight, u64& mine) {
  const ListRun<c.threads> run(size);
  mine = 0;
  for (int i = run.first; i < run.last; ++i) mine += weight(entry_key(row.search().list[i]));
  return block_prefix_sum<c.threads>(mine, row.memory.warp_sums);
}

template <RowConfig c>
inline PrefixSum list_masses(ClusterRow<c>& row, int size, u64& mine) {
  return list_sums(row, size, [&](u32 key) { return row.mass(key); }, mine);
}

// The entry at which the running mass reaches `needed`.
template <RowConfig c>
inline int find_mass(ClusterRow<c>& row, int size, u64 needed, u64 before, u64 mine) {
  return find_entry(row, size, needed, before, mine, [&](u32 key) { return row.mass(key); });
}

}  // namespace quire::kernels
