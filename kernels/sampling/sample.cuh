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
// number below their total. What top-k keeps is mostly few tokens: they become a sorted list, and
// the rest is the work of one block.
#pragma once

#include "sampling/draw_token.h"
#include "sampling/row_filter.h"
#include "sampling/token_list.h"

namespace quire::kernels {

inline void put_token(const SampleParams& p, i64 row, i32 id, u64 mass, u64 total) {
  p.ids[row * p.ids_stride] = id;
  if (p.log_probs == nullptr) return;
  p.log_probs[row * p.log_probs_stride] =
      tile::log_f32(static_cast<float>(mass) / static_cast<float>(total));
}

inline void put_invalid(const SampleParams& p, i64 row) {
  p.ids[row * p.ids_stride] = -1;
  if (p.log_probs != nullptr) {
    p.log_probs[row * p.log_probs_stride] = tile::float_from_bits(0x7fc00000u);
  }
}

// How many of the sorted list's first `size` entries top-p and min-p keep. `all_mass`: of the whole
// row, for the joint order.
template <RowConfig c>
inline int kept_entries(ClusterRow<c>& row, const RowFilter& filter, int size, u64 all_mass) {
  u64 mine;
  if (filter.top_p < 1.f) {
    const PrefixSum sums = list_masses(row, size, mine);
    const u64 needed = nucleus_mass(filter.top_p, filter.joint ? all_mass : sums.total);
    if (needed <= sums.total) size = find_entry(row, size, needed, sums.before, mine) + 1;
  }
  const u32 smallest = tile::max_of(min_p_key(filter, row.largest), 1u);
  const ListRun<c.threads> run(size);
  mine = 0;
  for (int i = run.first; i < run.last; ++i) mine += entry_key(row.search().list[i]) >= smallest;
  return static_cast<int>(block_prefix_sum<c.threads>(mine, row.memory.warp_sums).total);
}

// The first block draws from the list of `size` tokens, of which top-k keeps the largest.
template <RowConfig c>
inline void draw_from_list(const SampleParams& p, ClusterRow<c>& row, const RowFilter& filter,
                           int size, u64 all_mass, i64 row_index) {
  u64* list = row.search().list;
  sort_list<c.threads>(list, size);
  size = kept_entries(row, filter, tile::min_of(size, filter.top_k), all_mass);
  // By index: the words of an entry change places.
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    list[i] = join_words(static_cast<u32>(list[i]), entry_key(list[i]));
  }
  tile::sync_diverged_block();
  sort_list<c.threads>(list, size);
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    list[i] = join_words(static_cast<u32>(list[i]), entry_key(list[i]));
  }
  tile::sync_diverged_block();
  u64 mine;
  const PrefixSum sums = list_masses(row, size, mine);
  const u64 target = scale_random(row_random(p, row_index), sums.total);
  const int place = find_entry(row, size, target + 1, sums.before, mine);
  if (tile::thread_index() != 0) return;
  const u64 entry = list[place];
  put_token(p, row_index, entry_index(entry), row.mass(entry_key(entry)), sums.total);
}

// Whether the row, whose largest key is known, is a distribution.
template <RowConfig c>
inline bool is_distribution(u32 largest, float temperature) {
  if constexpr (c.keys == RowKeys::probabilities) {
    return largest != 0 && largest < kNotAProbability;
  }
  const float logit = tile::float_from_bits(bits_of_key(largest));
  if (largest == kNanKey || logit == tile::kNegInf) return false;
  return logit < tile::kInfinity || temperature == 0.f;
}

template <RowConfig c>
inline void sample_valid(const SampleParams& p, ClusterRow<c>& row, const RowFilter& filter,
                         i64 row_index) {
  TokenCut cut = kKeepAll;
  if (filter.has_top_k(row.vocab)) {
    const Crossing crossing = find_count(row, static_cast<u64>(filter.top_k), kListCapacity);
    if (crossing.exists && crossing.above + crossing.within <= kListCapacity) {
      const bool counts_all = filter.joint && filter.top_p < 1.f;
      const u64 all_mass = counts_all ? kept_mass(row, kKeepAll) : 0;
      const int size = gather_list(
          row, row.search().list, [&](auto&& visit) { row.for_each(visit); },
          [&](i32 i, u32 key) {
            return key != 0 && row.largest - key <= crossing.last ? list_entry(key, i) : 0;
          });
      if (row.is_leader()) draw_from_list(p, row, filter, size, all_mass, row_index);
      return;
    }
    if (crossing.exists) cut = cut_at(row, crossing, 1, kKeepAll);
  }
  draw_token(row, with_top_p_and_min_p(row, filter, cut), row_random(p, row_index),
             [&](i32 id, u64 mass, u64 total) { put_token(p, row_index, id, mass, total); });
}

// Top-k straight from the logits: weighs only those that may be among the k largest. False when it
// cannot tell which these are; then nothing has been drawn. The row's largest key is `largest`.
template <RowConfig c>
inline bool sample_few_logits(const SampleParams& p, ClusterRow<c>& row, const RowFilter& filter,
                              u32 largest, i64 row_index) {
  if (!filter.has_top_k(row.vocab) || (filter.joint && filter.top_p < 1.f)) return false;
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
    return false;
  }
  // One bin more than has the k-th logit, so that all that weigh as much as it are in the list.
  const u32 lowest = largest - kNothing - 1;  // position of the lowest logit there may be
  const u32 last =
      crossing.last < lowest ? crossing.last + (crossing.last - crossing.first) + 1 : crossing.last;
  const auto weight = [&](u32 position) {
    return weight_bits(tile::float_from_bits(bits_of_key(largest - position)), row.weights);
  };
  const bool has_all = last >= lowest || row.weights.scale == 0.f;
  if (!has_all && weight(last + 1) >= weight(crossing.last)) return false;

  u64* list = row.search().list;
  const int size = gather_list(
      row, list, [&](auto&& visit) { row.for_each_logit(visit); },
      [&](i32 i, u32 key) {
        return key > kNothing && largest - key <= last ? list_entry(key, i) : 0;
      });
  if (!row.is_leader()) return true;
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    list[i] = list_entry(weight(largest - entry_key(list[i])), entry_index(list[i]));
  }
  tile::sync_diverged_block();
  draw_from_list(p, row, filter, size, 0, row_index);
  return true;
}

// Draws for an output row from a row that has been read; is_row is false where there is none.
template <RowConfig c>
inline void sample_row(const SampleParams& p, ClusterRow<c>& row, i64 row_index, bool is_row) {
  RowFilter filter(p.filter, row_index);
  bool valid = is_row && filter.is_valid();
  float temperature = 1.f;
  if constexpr (c.keys == RowKeys::weights) {
    temperature = p.temperature.at(row_index);
    valid = valid && is_temperature(temperature);
    if (temperature == 0.f) filter.top_k = 1;
  }
  valid = valid && is_distribution<c>(row.largest, temperature);
  if (row.is_leader() && tile::thread_index() == 0) {
    if (!valid) put_invalid(p, row_index);
    if (p.valid != nullptr) p.valid[row_index * p.valid_stride] = valid ? 1 : 0;
  }
  if (valid) {
    bool done = false;
    if constexpr (c.keys == RowKeys::weights) {
      const u32 largest = row.largest;
      row.set_temperature(temperature);
      done = sample_few_logits(p, row, filter, largest, row_index);
      if (!done) row.weigh();
    }
    if (!done) sample_valid(p, row, filter, row_index);
  }
  row.finish();
}

template <RowConfig c>
void sample(const SampleParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  const i64 source = p.indices == nullptr ? row_index : p.indices[row_index * p.indices_stride];
  const bool is_row = source >= 0 && source < p.in.rows;
  ClusterRow<c> row(p.in.data, (is_row ? source : 0) * p.in.stride, p.in.vocab, kSearchBytes);
  if (is_row) row.read();
  sample_row(p, row, row_index, is_row);
}

}  // namespace quire::kernels
