// A row that has not been read becomes a list of what its filter keeps, in one pass.
#pragma once

#include "sampling/nucleus_list.h"
#include "sampling/row_request.h"

namespace quire::kernels {

// How many of a row's largest tokens one pass should list: 0 when the row is to be searched.
struct Listing {
  i32 count = 0;
  bool is_top_k = false;  // the filter's k tokens are all there is to know
};

template <RowConfig c>
inline Listing listing_of(const RowRequest<c>& request, i32 vocab) {
  // Registers are too few on sm_120a where a step is 16 loads of single elements.
  constexpr bool kAreSingle = c.vec_elems == 1 && c.cluster == 1 && size_bytes(c.dtype) == 4;
  if constexpr (tile::kArch >= 1200 && kAreSingle) return {};
  const RowFilter& filter = request.filter;
  const bool counts_all = filter.counts_all(vocab);
  if (!request.valid) return {};
  if (has_candidates(c, filter.top_k, vocab)) return {filter.top_k, !counts_all};
  if (!counts_all && (filter.top_p < 1.f || filter.min_p <= 0.f)) return {};
  const i32 count = nucleus_tokens(vocab) / (counts_all ? 1 : 8);  // min-p keeps fewer
  return {has_candidates(c, count, vocab) ? count : 0, false};
}

// What the filter keeps, and perhaps some more, in one pass over a row that has not been read; no
// list when it cannot tell what that is; row.largest is then known, or 0. listing.count > 0.
template <RowConfig c, class Params>
inline int list_candidates(const Params& p, ClusterRow<c>& row, Listing listing) {
  float scale = 0.f;
  if (!listing.is_top_k) {
    const RowRequest<c> request(p, row_of_block<c>());
    scale = request.filter.top_p < 1.f ? weight_scale(request.temperature) : 0.f;
  }
  if (tile::thread_index() == 0) row.memory.listed = listing.is_top_k ? listing.count : 0;
  Candidates<c> candidates(row);
  if (c.keys != RowKeys::ordered && scale != 0.f) {
    candidates.gather_and_sum(listing.count, scale);
  } else {
    candidates.gather(listing.count);
  }
  // Anew, since registers are short in between.
  const RowRequest<c> request(p, row_of_block<c>());
  const i32 top_k = row.memory.listed;
  const auto found = candidates.summarise(top_k);
  const u32 largest = row.largest;
  const bool valid = largest != 0 && is_distribution<c>(largest, request.temperature);
  if constexpr (c.keys == RowKeys::weights) row.set_temperature(request.temperature);
  if (!found.complete || (valid && top_k > 0 && !candidates.is_bound_sure())) {
    row.largest = largest;
    return kNoList;
  }
  if (!valid) {
    row.finish();
    return kInvalidRow;
  }
  int size = found.total;
  if (c.keys != RowKeys::ordered && top_k == 0) {
    const float unlisted = candidates.unlisted_mass();
    candidates.collect(found);
    size = list_nucleus(row, request.filter, size, {unlisted, candidates.unlisted_key()});
    if (size == kNoList) row.largest = largest;
    return size;
  }
  candidates.collect(found);
  if (!row.is_leader()) return size;
  size = candidates.tighten(size, top_k);
  if constexpr (c.keys == RowKeys::weights) weigh_list(row, size);
  return size;
}

}  // namespace quire::kernels
