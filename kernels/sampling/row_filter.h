// Which tokens of a row top-k, top-p and min-p keep together.
#pragma once

#include "sampling/row_search.h"
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
        joint(p.joint != 0) {}
  bool is_valid() const { return !tile::is_nan(top_p) && !tile::is_nan(min_p); }
  bool has_top_k(i32 vocab) const { return top_k > 0 && top_k < vocab; }
};

// The smallest key that min-p keeps.
inline u32 min_p_key(const RowFilter& filter, u32 largest) {
  return tile::float_bits(min_p_threshold(filter.min_p, tile::float_from_bits(largest)));
}

// `cut` is that of top-k.
template <RowConfig c>
inline TokenCut with_top_p_and_min_p(ClusterRow<c>& row, const RowFilter& filter, TokenCut cut) {
  const u32 smallest = min_p_key(filter, row.largest);
  if (filter.top_p < 1.f) {
    cut = shorter(cut, find_mass(row, filter.joint ? kKeepAll : cut,
                                 [&](u64 total) { return nucleus_mass(filter.top_p, total); }));
  }
  return shorter(cut, {smallest, kNoIndex});
}

template <RowConfig c>
inline TokenCut filter_cut(ClusterRow<c>& row, const RowFilter& filter) {
  TokenCut cut = kKeepAll;
  if (filter.has_top_k(row.vocab)) {
    const Crossing crossing = find_count(row, static_cast<u64>(filter.top_k), 0);
    if (crossing.exists) cut = cut_at(row, crossing, 1, kKeepAll);
  }
  if constexpr (c.keys == RowKeys::ordered) {
    return cut;
  } else {
    return with_top_p_and_min_p(row, filter, cut);
  }
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
