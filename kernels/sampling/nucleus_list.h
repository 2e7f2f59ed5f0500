// Candidates of top-p and min-p: whether a list of a row's largest tokens holds all that they keep,
// which for top-p hangs on the mass of the whole row.
#pragma once

#include "sampling/candidates.h"
#include "sampling/row_filter.h"
#include "sampling/token_list.h"

namespace quire::kernels {

// Not the size of a list: there is none, the row cannot be sampled, or its mass must be known.
constexpr int kNoList = -1, kInvalidRow = -2, kNeedsMass = -3;

// A list of logits becomes one of weights.
template <RowConfig c>
inline void weigh_list(const ClusterRow<c>& row, int size) {
  u64* list = row.search().list;
#pragma unroll 1
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    const float logit = tile::float_from_bits(bits_of_key(entry_key(list[i])));
    list[i] = list_entry(weight_bits(logit, row.weights), entry_index(list[i]));
  }
  tile::sync_diverged_block();
}

// What of a row is not in its list.
struct Unlisted {
  float mass;  // nearly
  u32 key;     // no larger one
};

struct MassRange {
  u64 low, high;
};

// A sum of floats, and what it may be off by: each weight by the roundings of its exponent of 40 at
// most (7e-6), the sum by those of 16 additions and one a step, 248 at most in rows that have
// candidates (1.6e-5), then of some over the block and the cluster (2e-6); and masses are rounded
// down to units.
inline MassRange range_of_sum(float sum, i32 vocab) {
  if (!(sum < 0x1p62f)) return {0, u64{1} << 62};
  const u64 x = static_cast<u64>(sum);
  const u64 off = (x >> 15) + static_cast<u64>(vocab);
  return {x > off ? x - off : 0, x + off};
}

// A list with the masses of its entries, in units that 4096 of them do not overflow; rounded down.
struct MassList : KeyList {
  static constexpr int kShift = kMassBits + 12 - 32;
  i32 largest_exponent;

  u32 weight(int i) const {
    return static_cast<u32>(token_mass(key(i), largest_exponent) >> kShift);
  }
};

// Leaves out of the list what is surely behind the largest tokens of mass `needed`.
template <RowConfig c>
inline int keep_mass(ClusterRow<c>& row, int size, u64 needed) {
  Candidates<c> candidates(row);
  const auto enough = static_cast<u32>(needed >> MassList::kShift) + 1;
  const MassList list{candidates.keys(size), row.largest_exponent()};
  const u32 least = reached_key<c.threads>(list, {enough, enough + enough / 16, 1});
  return candidates.keep_from(join_words(least, 0), size);
}

// How many entries of the sorted list, which is all of the row but for `unlisted`, the filter keeps
// at most. The mass of the whole row is in `all`.
template <RowConfig c>
inline int kept_of_list(ClusterRow<c>& row, const RowFilter& filter, int size, MassRange all,
                        u32 unlisted) {
  int kept = tile::min_of(size, filter.top_k);
  bool ends = kept == filter.top_k;
  if (filter.top_p < 1.f) {
    u64 mine;
    const PrefixSum sums = list_masses(row, kept, mine);
    const u64 low = nucleus_mass(filter.top_p, all.low);
    const u64 high = nucleus_mass(filter.top_p, all.high);
    if (low <= sums.total) {
      kept = find_mass(row, kept, low, sums.before, mine) + 1;
      if (high > row.memory.found[0]) return kNeedsMass;
      ends = true;
    }
  }
  const bool has_all = ends && entry_key(row.search().list[kept - 1]) > unlisted;
  return has_all || min_p_key(filter, row.largest) > unlisted || unlisted == 0 ? kept : kNoList;
}

// Cuts the first block's list of `size` candidates to what the filter keeps, or a little more. By
// all blocks. No list when some of that is not in it.
template <RowConfig c>
inline int list_nucleus(ClusterRow<c>& row, const RowFilter& filter, int size, Unlisted unlisted) {
  int kept = 0;
  u64 listed = 0;
  MassRange all{0, 0};
  if (row.is_leader()) {
    if constexpr (c.keys == RowKeys::weights) weigh_list(row, size);
    u64 mine;
    listed = list_masses(row, size, mine).total;
    if (unlisted.key > 0) all = range_of_sum(unlisted.mass, row.vocab);
    all.low += listed;
    all.high += listed;
    if (const u64 needed = nucleus_mass(filter.top_p, all.high); 0 < needed && needed < listed) {
      size = keep_mass(row, size, needed);
    }
    sort_list<c.threads>(row.search().list, size);
    kept = kept_of_list(row, filter, size, all, unlisted.key);
  }
  const auto verdict = [&] {
    return static_cast<int>(
        tile::warp::shuffle(static_cast<int>(row.exchange(static_cast<u64>(kept))), 0));
  };
  if constexpr (c.cluster > 1) kept = verdict();
  if (kept == kNeedsMass) {
    all.low = kept_mass(row, kKeepAll);
    if (row.is_leader()) kept = kept_of_list(row, filter, size, {all.low, all.low}, unlisted.key);
    if constexpr (c.cluster > 1) kept = verdict();
  }
  if (kept != kNoList) row.finish();
  if (kept != kNoList && row.is_leader()) {
    if (tile::thread_index() == 0) row.memory.all_mass = all.low;
    tile::sync_diverged_block();
  }
  return kept;
}

}  // namespace quire::kernels
