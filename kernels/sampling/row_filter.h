// Which tokens of a row top-k, top-p and min-p keep together.
#pragma once

#include "sampling/row_prefix.h"
#include "sampling/sampling_types.h"

namespace quire::kernels {

// One row's parameters.
struct RowFilter {
  i32 top_k;
  float top_p, min_p;
  bool joint;

  RowFilter(const FilterParams& p, i64 row)
      : top_k(p.top_k.at(row)),
        top_p(p.top_p.at(row)),
        min_p(p.min_p.at(row)),
        joint(p.joint != 0) {
    if (top_k <= 0) top_k = kNoIndex;
  }
  bool is_valid() const { return !tile::is_nan(top_p) && !tile::is_nan(min_p); }
  bool has_top_k(i32 vocab) const { return top_k < vocab; }
  // Whether top-p is a part of the mass of the whole row.
  bool counts_all(i32 vocab) const { return top_p < 1.f && (joint || !has_top_k(vocab)); }
};

// The smallest key that min-p keeps.
inline u32 min_p_key(const RowFilter& filter, u32 largest) {
  return tile::float_bits(min_p_threshold(filter.min_p, tile::float_from_bits(largest)));
}

template <RowConfig c, bool reverse = false>
inline TokenCut top_k_cut(ClusterRow<c>& row, i32 k) {
  return find_prefix<c, reverse>(
      row, kKeepAll, [](u32) { return 1u; }, [&](u64) { return static_cast<u64>(k); });
}

// `cut` is that of top-k.
template <RowConfig c>
inline TokenCut with_top_p_and_min_p(ClusterRow<c>& row, const RowFilter& filter, TokenCut cut) {
  const u32 smallest = min_p_key(filter, row.largest);
  if (filter.top_p < 1.f) {
    cut =
        shorter(cut, find_prefix(
                         row, filter.joint ? kKeepAll : cut, [&](u32 key) { return row.mass(key); },
                         [&](u64 total) { return nucleus_mass(filter.top_p, total); }));
  }
  return shorter(cut, {smallest, kNoIndex});
}

template <RowConfig c>
inline TokenCut filter_cut(ClusterRow<c>& row, const RowFilter& filter) {
  TokenCut cut = kKeepAll;
  if (filter.has_top_k(row.vocab)) cut = top_k_cut(row, filter.top_k);
  if constexpr (c.keys == RowKeys::ordered) {
    return cut;
  } else {
    return with_top_p_and_min_p(row, filter, cut);
  }
}

// How many of the sorted list's first `size` entries top-p and min-p keep.
template <RowConfig c>
inline int kept_entries(ClusterRow<c>& row, const RowFilter& filter, int size) {
  u64 mine;
  if (filter.top_p < 1.f) {
    const PrefixSum sums = list_masses(row, size, mine);
    const u64 needed =
        nucleus_mass(filter.top_p, filter.counts_all(row.vocab) ? row.memory.all_mass : sums.total);
    if (needed <= sums.total) size = find_mass(row, size, needed, sums.before, mine) + 1;
  }
  const u32 smallest = tile::max_of(min_p_key(filter, row.largest), 1u);
  const ListRun<c.threads> run(size);
  mine = 0;
  for (int i = run.first; i < run.last; ++i) mine += entry_key(row.search().list[i]) >= smallest;
  return static_cast<int>(block_prefix_sum<c.threads>(mine, row.memory.warp_sums).total);
}

// Over the cluster. Every thread gets it.
template <RowConfig c>
inline u64 kept_mass(ClusterRow<c>& row, TokenCut cut) {
  u64 mine = 0;
  row.for_each([&](i32 i, u32 key) {
    if (cut.keeps(key, i)) mine += row.mass(key);
  });
  const PrefixSum sums = block_prefix_sum<c.threads>(mine, row.memory.warp_sums);
  return row.cluster_sum(sums.total).total;
}

}  // namespace quire::kernels
