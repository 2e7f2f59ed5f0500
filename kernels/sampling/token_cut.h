// The set of tokens that top-k, top-p and min-p keep, and the search for it without sorting.
//
// Tokens are ordered by probability, descending, then by index. Every filter keeps a prefix of this
// order, so a set is described by the last token's probability and how many tokens of exactly that
// probability are kept (those with the lowest indices).
#pragma once

#include "sampling/block_reduce.h"
#include "sampling/row_reader.h"
#include "sampling/sampling_types.h"
#include "tile/atomic.h"

namespace quire::kernels {

struct TokenCut {
  u32 bits;  // of the probability
  u32 ties;  // tokens kept among those of this probability
};
constexpr TokenCut kKeepAll{0, 0xffffffffu};

constexpr TokenCut shorter(TokenCut a, TokenCut b) {
  if (a.bits != b.bits) return a.bits > b.bits ? a : b;
  return a.ties < b.ties ? a : b;
}

// The search reads a probability's 31 bits in digits of 11, 11 and 9 bits, most significant first.
constexpr int kNumDigits = 3;
constexpr int kBins = 1 << 11;
constexpr int digit_shift(int digit) { return digit == 0 ? 20 : digit == 1 ? 9 : 0; }
constexpr int digit_width(int digit) { return digit == 2 ? 9 : 11; }

// Sums of 64 bits in two words: shared memory adds 32 bits natively. Order does not matter.
struct Histogram {
  u32 low[kBins];
  u32 high[kBins];

  void add(u32 bin, u64 x) {
    const u32 low_part = static_cast<u32>(x);
    const u32 old = tile::atomic_add(&low[bin], low_part);
    const u32 high_part = static_cast<u32>(x >> 32) + (old + low_part < old ? 1 : 0);
    if (high_part != 0) tile::atomic_add(&high[bin], high_part);
  }
  // By the whole block, between two barriers.
  void clear(int num_threads) {
    tile::sync_block();
    for (int i = tile::thread_index(); i < kBins; i += num_threads) low[i] = high[i] = 0;
    tile::sync_block();
  }
  u64 sum(int bin) const { return join_words(high[bin], low[bin]); }
};

// A block's shared memory.
struct SampleMemory {
  u64 warp_sums[32];
  u64 segment_mass[32];
  u32 segment_ties[32];
  u64 found_amount;
  u32 found_bin;
  i32 found_thread;
  u32 found_ties;
  Histogram histogram;
};
static_assert(sizeof(SampleMemory) == kSampleMemoryBytes);

// One row of probabilities, as seen by its block.
template <SampleConfig c>
struct ProbabilityRow {
  const float* data;
  i32 vocab;
  i32 largest_exponent;

  u64 mass(u32 bits) const { return token_mass(bits, largest_exponent); }
  template <class Visit>  // visit(bits)
  void for_each(Visit&& visit) const {
    for_each_element<c.vec_elems>(
        data, 0, vocab, tile::thread_index(), c.threads,
        [&](i32, float x) { visit(probability_bits(tile::float_bits(x))); });
  }
};

// Finds the bin at which the sum from the top reaches `needed`, and takes the sum of the bins above
// off `needed`. There is such a bin: `needed` is at least 1 and at most the sum of all.
inline u32 find_bin(SampleMemory& memory, PrefixSum sums, int top_bin, u64 mine, u64& needed) {
  if (sums.before < needed && needed <= sums.before + mine) {
    u64 above = sums.before;
    int bin = top_bin;
    while (above + memory.histogram.sum(bin) < needed) above += memory.histogram.sum(bin--);
    memory.found_bin = static_cast<u32>(bin);
    memory.found_amount = above;
  }
  tile::sync_block();
  needed -= memory.found_amount;
  return memory.found_bin;
}

// The shortest prefix of the tokens' order, within the prefix `within`, whose weight reaches
// needed_of(total weight of `within`); `within` itself when that is 0 or more than there is.
// weight(bits) is a count or a mass, 0 for a probability of 0. Every thread gets the result.
template <SampleConfig c, class Weight, class NeededOf>
inline TokenCut find_cut(const ProbabilityRow<c>& row, SampleMemory& memory, TokenCut within,
                         Weight&& weight, NeededOf&& needed_of) {
  constexpr int kPerThread = kBins / c.threads;
  const int top_bin = kBins - 1 - tile::thread_index() * kPerThread;
  u32 prefix = 0;  // the digits found so far
  u64 needed = 0;
#pragma unroll 1  // three copies of the body compile three times as long
  for (int digit = 0; digit < kNumDigits; ++digit) {
    const int shift = digit_shift(digit), width = digit_width(digit);
    memory.histogram.clear(c.threads);
    const auto count = [&](u32 bits, u64 amount) {
      if (bits >> (shift + width) != prefix || amount == 0) return;
      memory.histogram.add(bits >> shift & ((1u << width) - 1), amount);
    };
    row.for_each([&](u32 bits) {
      if (bits > within.bits) count(bits, weight(bits));
    });
    if (tile::thread_index() == 0 && within.bits != 0) {
      count(within.bits, within.ties * weight(within.bits));
    }
    tile::sync_block();
    u64 mine = 0;
    for (int i = 0; i < kPerThread; ++i) mine += memory.histogram.sum(top_bin - i);
    const PrefixSum sums = block_prefix_sum<c.threads>(mine, memory.warp_sums);
    if (digit == 0) {
      needed = needed_of(sums.total);
      if (needed == 0 || needed > sums.total) return within;
    }
    prefix = prefix << width | find_bin(memory, sums, top_bin, mine, needed);
  }
  const u64 each = weight(prefix);
  return {prefix, static_cast<u32>((needed + each - 1) / each)};
}

}  // namespace quire::kernels
