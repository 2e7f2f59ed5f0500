// Draws one token a row from the tokens that a filter keeps: from probabilities, or from logits
// without a softmax before.
//
// Grid:   c.cluster blocks a row of the output
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes
// Output: ids; valid and log_probs when given; id -1 and NaN for a row that cannot be sampled
// Needs:  sm_90 for clusters, else any GPU
//
// Sums are integers (token_mass), so that their order does not matter and every backend draws the
// same token: the first, by index, at which the running mass of the kept tokens exceeds a random
// number below their total. What top-k keeps is mostly few tokens: they become a list, and
// the rest is the work of one block.
#pragma once

#include "sampling/draw_from_list.h"
#include "sampling/draw_token.h"
#include "sampling/list_candidates.h"

namespace quire::kernels {

inline void put_invalid(const SampleParams& p, i64 row) {
  p.ids[row * p.ids_stride] = -1;
  if (p.log_probs != nullptr) {
    p.log_probs[row * p.log_probs_stride] = tile::float_from_bits(0x7fc00000u);
  }
}

// The tokens that top-k keeps, and perhaps some more, as a list of the first block, from a row of
// weights or probabilities. Without a list `cut` is what top-k keeps.
template <RowConfig c>
inline int list_top_k(ClusterRow<c>& row, const RowFilter& filter, TokenCut& cut) {
  if (!filter.has_top_k(row.vocab)) return kNoList;
  if (filter.top_k <= kListCapacity) {
    const Crossing crossing = find_count(row, static_cast<u64>(filter.top_k), kListCapacity);
    if (!crossing.exists) return kNoList;
    if (crossing.above + crossing.within <= kListCapacity) {
      if (filter.joint && filter.top_p < 1.f) {
        const u64 all_mass = kept_mass(row, kKeepAll);
        if (tile::thread_index() == 0) row.memory.all_mass = all_mass;
      }
      return gather_list(
          row, row.search().list, [&](auto&& visit) { row.for_each(visit); },
          [&](i32 i, u32 key) {
            return key != 0 && row.largest - key <= crossing.last ? list_entry(key, i) : 0;
          });
    }
  }
  cut = top_k_cut(row, filter.top_k);
  return kNoList;
}

// The same straight from the logits: weighs only those that may be among the k largest. No list
// when it cannot tell which these are. The row's largest key is `largest`.
template <RowConfig c>
inline int list_few_logits(ClusterRow<c>& row, const RowFilter& filter, u32 largest) {
  if (!filter.has_top_k(row.vocab) || (filter.joint && filter.top_p < 1.f)) return kNoList;
  constexpr u32 kNothing = ordered_key(0xff800000u);  // of -inf
  const Crossing crossing = find_crossing(
      row, {kKeyShift, kListCapacity, /*counts_next=*/true},
      [&](auto&& add) {
        row.for_each_logit([&](i32, u32 key) {
          if (key > kNothing) add(largest - key, 1u);
        });
      },
      [&](u64) { return static_cast<u64>(filter.top_k); });
  if (!crossing.exists || crossing.above + crossing.within + crossing.next > kListCapacity) {
    return kNoList;
  }
  // One bin more than has the k-th logit, so that all that weigh as much as it are in the list.
  const u32 lowest = largest - kNothing - 1;  // position of the lowest logit there may be
  const u32 last =
      crossing.last < lowest ? crossing.last + (crossing.last - crossing.first) + 1 : crossing.last;
  const auto weight = [&](u32 position) {
    return weight_bits(tile::float_from_bits(bits_of_key(largest - position)), row.weights);
  };
  const bool has_all = last >= lowest || row.weights.scale == 0.f;
  if (!has_all && weight(last + 1) >= weight(crossing.last)) return kNoList;

  const int size = gather_list(
      row, row.search().list, [&](auto&& visit) { row.for_each_logit(visit); },
      [&](i32 i, u32 key) {
        return key > kNothing && largest - key <= last ? list_entry(key, i) : 0;
      });
  if (row.is_leader()) weigh_list(row, size);
  return size;
}

template <RowConfig c>
inline void put_validity(const SampleParams& p, const ClusterRow<c>& row, bool valid) {
  if (!row.is_leader() || tile::thread_index() != 0) return;
  const i64 row_index = row_of_block<c>();
  if (!valid) put_invalid(p, row_index);
  if (p.valid != nullptr) p.valid[row_index * p.valid_stride] = valid ? 1 : 0;
}

// What the filter keeps of a row that has been read and can be sampled, as a list. No list: the
// token has been drawn.
template <RowConfig c>
inline int list_of_row(const SampleParams& p, ClusterRow<c>& row) {
  const RowRequest<c> request(p, row_of_block<c>());
  const RowFilter& filter = request.filter;
  if constexpr (c.keys == RowKeys::weights) {
    const u32 largest = row.largest;
    row.set_temperature(request.temperature);
    const int size = list_few_logits(row, filter, largest);
    if (size != kNoList) return size;
    row.weigh();
  }
  TokenCut cut = kKeepAll;
  const int size = list_top_k(row, filter, cut);
  if (size != kNoList) return size;
  const i64 row_index = row_of_block<c>();
  const RowFilter again(p.filter, row_index);  // registers are short in between
  draw_token(row, with_top_p_and_min_p(row, again, cut), row_random(p, row_index),
             [&](i32 id, u64 mass, u64 total) { put_token(p, row_index, id, mass, total); });
  return kNoList;
}

template <RowConfig c>
void sample(const SampleParams& p) {
  const i64 row_index = row_of_block<c>();
  const i64 source = p.indices == nullptr ? row_index : p.indices[row_index * p.indices_stride];
  const bool is_row = source >= 0 && source < p.in.rows;
  ClusterRow<c> row(p.in.data, (is_row ? source : 0) * p.in.stride, p.in.vocab, kSearchBytes);
  int size = kNoList;
  if (is_row) {
    const Listing listing = listing_of(RowRequest<c>(p, row_of_block<c>()), row.vocab);
    if (listing.count > 0) size = list_candidates(p, row, listing);
  }
  if (size != kNoList) {
    put_validity(p, row, size != kInvalidRow);
  } else {
    if (is_row && row.largest == 0) row.read();
    const RowRequest<c> request(p, row_of_block<c>());
    const bool valid =
        is_row && request.valid && is_distribution<c>(row.largest, request.temperature);
    put_validity(p, row, valid);
    if (valid) size = list_of_row(p, row);
    row.finish();
  }
  if (size >= 0 && row.is_leader()) draw_from_list(p, row, size);
}

}  // namespace quire::kernels
