// Searches over a row without sorting it: where a running count or mass, from the largest token
// down, reaches an amount. Tokens are ordered by key, descending, then by index.
#pragma once

#include "sampling/cluster_row.h"

namespace quire::kernels {

// What a filter keeps: a prefix of the order, described by its last token.
struct TokenCut {
  u32 key;
  i32 last_index;  // of those with this very key: up to here
  bool keeps(u32 other, i32 index) const {
    return other > key || (other == key && index <= last_index);
  }
};
constexpr i32 kNoIndex = 0x7fffffff;
constexpr TokenCut kKeepAll{0, kNoIndex};

constexpr TokenCut shorter(TokenCut a, TokenCut b) {
  if (a.key != b.key) return a.key > b.key ? a : b;
  return a.last_index < b.last_index ? a : b;
}

// Where a running sum over positions, ascending, reaches an amount.
struct Crossing {
  bool exists;
  u32 first, last;  // positions among which it lies
  u64 above;        // sum before `first`
  u64 within;       // sum from `first` to `last`
  u64 next;         // sum over as many positions behind `last`
  u64 needed;       // of the amount, past `above`
};

struct SearchGoal {
  int shift;                 // the first bins are 2^shift positions wide
  u64 enough;                // it ends when no more than this is above and within
  bool counts_next = false;  // and next
};

// Blocks whose bins are read at the same time: with all of them the addresses would need more
// registers than there are.
constexpr int kBlocksAtOnce = tile::kArch >= 1200 ? 1 : 4;

// The bin in which the sum over the bins of all blocks reaches needed_of(total): its index, the sum
// above and its own in memory.found of every block. False when nothing is to be found.
template <RowConfig c, class NeededOf>
inline bool find_bin(ClusterRow<c>& row, NeededOf&& needed_of) {
  constexpr int kSlice = kBins / c.cluster;  // bins that one block sums up
  constexpr int kPerThread = tile::ceil_div(kSlice, c.threads);
  const int first = row.rank() * kSlice + tile::thread_index() * kPerThread;
  const bool has_bins = tile::thread_index() * kPerThread < kSlice;
  const auto bin_sum = [&](int bin) {
    u64 sum = 0;
#pragma unroll kBlocksAtOnce
    for (int r = 0; r < c.cluster; ++r) {
      sum += ClusterRow<c>::of_block(&row.search().histogram, r)->sum(bin);
    }
    return sum;
  };
  row.sync_own();
  u64 mine = 0;
  if (has_bins) {
    for (int i = 0; i < kPerThread; ++i) mine += bin_sum(first + i);
  }
  const PrefixSum sums = block_prefix_sum<c.threads>(mine, row.memory.warp_sums);
  const ClusterSum sum = row.cluster_sum(sums.total);
  const u64 needed = needed_of(sum.total);
  const bool exists = needed != 0 && needed <= sum.total;
  u64 above = sum.before + sums.before;
  if (exists && above < needed && needed <= above + mine) {
    int bin = first;
    u64 within = bin_sum(bin);
    while (above + within < needed) {
      above += within;
      within = bin_sum(++bin);
    }
    const u64 next = bin + 1 < kBins ? bin_sum(bin + 1) : 0;
#pragma unroll 1
    for (int r = 0; r < c.cluster; ++r) {
      u64* found = ClusterRow<c>::of_block(row.memory.found, r);
      found[0] = static_cast<u64>(bin);
      found[1] = above;
      found[2] = within;
      found[3] = next;
    }
  }
  row.sync();
  return exists;
}

// One histogram: the bin of [found.first, found.last] at which the sum reaches needed_of(sum over
// all), whose bins are 2^shift positions wide; then `shift` is that of its bins. `found` starts as
// {}, and its last bin then is open. Each(add) calls add(position, weight) for all that this block
// has. needed_of's amount may be 0 or more than the sum: nothing is searched for, and found.exists
// is false.
template <RowConfig c, class Each, class NeededOf>
inline void narrow(ClusterRow<c>& row, Crossing& found, int& shift, Each&& each,
                   NeededOf&& needed_of) {
  constexpr int kOpenShift = 32 - kBinBits;
  Histogram& histogram = row.search().histogram;
  const bool is_first = !found.exists;
  tile::sync_diverged_block();
  for (int i = tile::thread_index(); i < kBins; i += c.threads) {
    histogram.low[i] = histogram.high[i] = 0;
  }
  tile::sync_diverged_block();
  each([&](u32 position, auto weight) {
    if (position < found.first) return;
    u32 bin = (position - found.first) >> shift;
    if (is_first) bin = tile::min_of(bin, static_cast<u32>(kBins - 1));
    if (bin < kBins) histogram.add(bin, weight);
  });
  found.exists = find_bin(row, [&](u64 total) {
    if (is_first) found.needed = needed_of(total);
    return found.needed;
  });
  if (!found.exists) return;
  const u64* result = row.memory.found;
  const u32 bin = static_cast<u32>(result[0]);
  found.needed -= result[1];
  found.above += result[1];
  found.within = result[2];
  found.next = result[3];
  found.first += bin << shift;
  const bool is_open = is_first && bin == kBins - 1;
  found.last = is_open ? 0xffffffffu : found.first + (1u << shift) - 1;
  shift = is_open ? kOpenShift : tile::max_of(shift - kBinBits, 0);
}

// The search goes on until its goal is reached or `first` to `last` are one position.
template <RowConfig c, class Each, class NeededOf>
inline Crossing find_crossing(ClusterRow<c>& row, SearchGoal goal, Each&& each,
                              NeededOf&& needed_of) {
  Crossing found{};
  int shift = goal.shift;
  for (;;) {
    narrow(row, found, shift, each, needed_of);
    if (!found.exists || found.first == found.last) return found;
    const u64 sum = found.above + found.within + (goal.counts_next ? found.next : 0);
    if (sum <= goal.enough) return found;
  }
}

// Bins of the first search: 32 to the power of two, 64 powers of two down from the largest.
constexpr int kKeyShift = 18;

template <RowConfig c>
inline Crossing find_count(ClusterRow<c>& row, u64 count, u64 enough) {
  return find_crossing(
      row, {kKeyShift, enough},
      [&](auto&& add) {
        row.for_each([&](i32, u32 key) {
          if (key != 0) add(row.largest - key, 1u);
        });
      },
      [&](u64) { return count; });
}

// The prefix that ends with the last of the tokens which `crossing` needs; each of them weighs
// `each`, and `crossing` is down to one key. `reverse`: the tokens of one key are ordered by
// descending index; the cut's last index is then vocab - 1 minus it.
template <RowConfig c, bool reverse = false>
inline TokenCut cut_at(ClusterRow<c>& row, const Crossing& crossing, u64 each, TokenCut within) {
  const u32 key = row.largest - crossing.first;
  const u64 ties = (crossing.needed + each - 1) / each;
  const TokenCut all{key, within.key == key ? within.last_index : kNoIndex};
  if (ties * each >= crossing.within) return all;
  int shift = 0;
  while ((row.vocab - 1) >> shift >= kBins) ++shift;
  const Crossing last = find_crossing(
      row, {shift, 0},
      [&](auto&& add) {
        row.for_each([&](i32 index, u32 k) {
          const i32 i = reverse ? row.vocab - 1 - index : index;
          if (k == key && all.keeps(k, i)) add(static_cast<u32>(i), 1u);
        });
      },
      [&](u64) { return ties; });
  return {key, static_cast<i32>(last.first)};
}

}  // namespace quire::kernels
