// Draws one token a row from the tokens that a filter keeps.
//
// Grid:   one block a row of the output
// Block:  c.threads
// Smem:   kSampleMemoryBytes, 17 KiB
// Output: ids, and valid when given; id -1 for a row that cannot be sampled
// Needs:  any GPU
//
// Sums are integers (token_mass), so that their order does not matter and every backend draws the
// same token: the first, by index, at which the running mass of the kept tokens exceeds a random
// number below their total.
#pragma once

#include "sampling/token_cut.h"

namespace quire::kernels {

// Tokens of a range of indices that lie above the cut (their mass) and on it (their number).
struct KeptTokens {
  u64 mass = 0;
  u32 ties = 0;
};

template <SampleConfig c>
inline void count_kept(const ProbabilityRow<c>& row, TokenCut cut, float x, KeptTokens& kept) {
  const u32 bits = probability_bits(tile::float_bits(x));
  if (bits > cut.bits) kept.mass += row.mass(bits);
  if (bits == cut.bits) ++kept.ties;
}

// What every thread learns about the place of the draw.
struct Place {
  int thread;       // whose range it is in
  u64 target;       // mass of kept tokens between the range's beginning and the draw
  u32 ties_before;  // tokens on the cut before the range
};

// The ranges of threads 0, 1, … follow each other; `first_ties` tokens on the cut come before them.
// target_of(total) chooses the draw from the mass of all kept tokens in them.
template <int threads, class TargetOf>
inline Place locate(SampleMemory& memory, KeptTokens mine, TokenCut cut, u64 mass_on_cut,
                    u32 first_ties, TargetOf&& target_of) {
  const u32 ties_before =
      first_ties + static_cast<u32>(block_prefix_sum<threads>(mine.ties, memory.warp_sums).before);
  const u32 ties_left = cut.ties > ties_before ? cut.ties - ties_before : 0;
  const u64 mass = mine.mass + tile::min_of(ties_left, mine.ties) * mass_on_cut;
  const PrefixSum sums = block_prefix_sum<threads>(mass, memory.warp_sums);
  const u64 target = target_of(sums.total);
  if (sums.before <= target && target < sums.before + mass) {
    memory.found_thread = tile::thread_index();
    memory.found_amount = target - sums.before;
    memory.found_ties = ties_before;
  }
  tile::sync_block();
  return {memory.found_thread, memory.found_amount, memory.found_ties};
}

// The token at which the running mass exceeds place.target; one thread's work.
template <SampleConfig c>
inline i32 walk(const ProbabilityRow<c>& row, TokenCut cut, Place place, i32 begin, i32 end) {
  u64 mass = 0;
  u32 ties = place.ties_before;
  for (i32 i = begin; i < end; ++i) {
    const u32 bits = probability_bits(tile::float_bits(row.data[i]));
    const bool on_cut = bits == cut.bits;
    if (bits > cut.bits || (on_cut && ties < cut.ties)) mass += row.mass(bits);
    if (on_cut) ++ties;
    if (mass > place.target) return i;
  }
  return -1;  // not reached: the range holds the draw
}

// First to one warp's segment of the row, then to one thread's piece of the segment.
template <SampleConfig c>
inline void draw(const ProbabilityRow<c>& row, SampleMemory& memory, TokenCut cut, u64 random,
                 i32* id) {
  constexpr i32 kWarps = c.threads / 32;
  const i32 segment = tile::ceil_div(row.vocab, kWarps * c.vec_elems) * c.vec_elems;
  const i32 first = tile::warp_index() * segment;
  KeptTokens kept;
  for_each_element<c.vec_elems>(row.data, first, tile::min_of(first + segment, row.vocab),
                                tile::lane_index(), 32,
                                [&](i32, float x) { count_kept(row, cut, x, kept); });
  kept.mass = warp_sum(kept.mass);
  kept.ties = static_cast<u32>(tile::warp::sum(static_cast<int>(kept.ties)));
  if (tile::lane_index() == 0) {
    memory.segment_mass[tile::warp_index()] = kept.mass;
    memory.segment_ties[tile::warp_index()] = kept.ties;
  }
  tile::sync_block();

  const int thread = tile::thread_index();
  kept = {};
  if (thread < kWarps) kept = {memory.segment_mass[thread], memory.segment_ties[thread]};
  const u64 mass_on_cut = row.mass(cut.bits);
  Place place = locate<c.threads>(memory, kept, cut, mass_on_cut, 0,
                                  [&](u64 total) { return scale_random(random, total); });

  const i32 segment_begin = place.thread * segment;
  const i32 segment_end = tile::min_of(segment_begin + segment, row.vocab);
  const i32 piece = tile::ceil_div(segment, c.threads);
  const i32 begin = tile::min_of(segment_begin + thread * piece, segment_end);
  const i32 end = tile::min_of(begin + piece, segment_end);
  kept = {};
  for (i32 i = begin; i < end; ++i) count_kept(row, cut, row.data[i], kept);
  const u64 target = place.target;
  place = locate<c.threads>(memory, kept, cut, mass_on_cut, place.ties_before,
                            [&](u64) { return target; });
  if (thread == place.thread) *id = walk(row, cut, place, begin, end);
}

// Which tokens the filter keeps. `largest` is the bits of the row's largest probability.
template <SampleConfig c>
inline TokenCut filter_cut(const SampleParams& p, i64 row_index, const ProbabilityRow<c>& row,
                           SampleMemory& memory, u32 largest) {
  const auto mass = [&](u32 bits) { return row.mass(bits); };
  const auto nucleus = [&](u64 total) { return nucleus_mass(p.top_p.at(row_index), total); };
  if constexpr (c.filter == TokenFilter::min_p) {
    const float threshold = min_p_threshold(p.min_p.at(row_index), tile::float_from_bits(largest));
    return {tile::float_bits(threshold), kKeepAll.ties};
  }
  TokenCut cut = kKeepAll;
  if constexpr (uses_top_k(c.filter)) {
    const i32 k = p.top_k.at(row_index);
    if (k > 0 && k < row.vocab) {
      cut = find_cut(
          row, memory, kKeepAll, [](u32 bits) -> u64 { return bits != 0 ? 1 : 0; },
          [&](u64) { return static_cast<u64>(k); });
    }
  }
  if constexpr (uses_top_p(c.filter)) {
    constexpr bool kJoint = c.filter == TokenFilter::top_k_and_top_p;
    cut = shorter(cut, find_cut(row, memory, kJoint ? kKeepAll : cut, mass, nucleus));
  }
  return cut;
}

// Whether the row's parameters are numbers.
template <SampleConfig c>
inline bool has_valid_parameters(const SampleParams& p, i64 row) {
  if constexpr (uses_top_p(c.filter)) return !tile::is_nan(p.top_p.at(row));
  if constexpr (c.filter == TokenFilter::min_p) return !tile::is_nan(p.min_p.at(row));
  return true;
}

template <SampleConfig c>
void sample(const SampleParams& p) {
  SampleMemory& memory = *reinterpret_cast<SampleMemory*>(tile::shared_memory());
  const i64 row_index = tile::block_index();
  const i64 source = p.indices == nullptr ? row_index : p.indices[row_index * p.indices_stride];
  bool valid = source >= 0 && source < p.probs_rows && has_valid_parameters<c>(p, row_index);
  ProbabilityRow<c> row{p.probs + (valid ? source : 0) * p.probs_stride, p.vocab, 0};
  u32 largest = 0;
  if (valid) {
    row.for_each([&](u32 bits) { largest = tile::max_of(largest, bits); });
    largest = static_cast<u32>(block_max<c.threads>(static_cast<u64>(largest), memory.warp_sums));
    valid = largest != 0 && largest < kNotAProbability;
  }
  i32* id = p.ids + row_index * p.ids_stride;
  if (tile::thread_index() == 0) {
    if (!valid) *id = -1;
    if (p.valid != nullptr) p.valid[row_index * p.valid_stride] = valid ? 1 : 0;
  }
  if (!valid) return;
  row.largest_exponent = probability_exponent(largest);
  const TokenCut cut = filter_cut(p, row_index, row, memory, largest);
  draw(row, memory, cut, row_random(p, row_index), id);
}

}  // namespace quire::kernels
