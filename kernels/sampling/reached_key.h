// Which key a given number of a list's entries reach, found by a block without sorting them.
#pragma once

#include "sampling/block_reduce.h"
#include "sampling/row_types.h"
#include "tile/atomic.h"

namespace quire::kernels {

struct KeyList {
  const u64* entries;
  int size;
  u32 upper;     // 0: keys are the upper words; else the lower words of entries with this upper one
  u32* bins;     // [kKeyBins] to work with
  u64* scratch;  // one a warp

  u32 key(int i) const {
    const auto word = static_cast<u32>(entries[i] >> 32);
    return upper == 0 ? word : word == upper ? static_cast<u32>(entries[i]) : 0;
  }
  u32 weight(int) const { return 1; }
};

struct KeyGoal {
  u32 count;   // weight of the entries that must reach the key; of a KeyList their number
  u32 enough;  // the search ends when no more than this do, or when those at the key are equal
  u32 lowest;  // entries below do not count; the result when fewer than `count` are left
};

// The largest and the smallest key that are not below `lowest`: high < low when there is none.
template <int threads, class List>
inline void find_range(const List& list, u32 lowest, u32& low, u32& high) {
  high = 0;
  u32 flipped = 0;  // of the smallest
#pragma unroll 1
  for (int i = tile::thread_index(); i < list.size; i += threads) {
    const u32 key = list.key(i);
    if (key < lowest) continue;
    high = tile::max_of(high, key);
    flipped = tile::max_of(flipped, ~key);
  }
#pragma unroll
  for (int m = 16; m > 0; m /= 2) {
    high = tile::max_of(high, tile::warp::shuffle_xor(high, m));
    flipped = tile::max_of(flipped, tile::warp::shuffle_xor(flipped, m));
  }
  share_across_warps(join_words(high, flipped), list.scratch, 0);
#pragma unroll 4
  for (int w = 0; w < threads / 32; ++w) {
    high = tile::max_of(high, static_cast<u32>(list.scratch[w] >> 32));
    flipped = tile::max_of(flipped, static_cast<u32>(list.scratch[w]));
  }
  low = ~flipped;
}

// The list may be changed when this returns.
template <int threads, class List>
inline u32 reached_key(const List& list, KeyGoal goal) {
  constexpr int kPerLane = kKeyBins / 32;
  u32 low, high;
  find_range<threads>(list, goal.lowest, low, high);
  if (high < low) return goal.lowest;
  // Bins over what is left of [low, high].
  for (;;) {
    // From the exponent of the range as a float.
    const auto range = static_cast<float>(high - low);
    const int shift = tile::max_of(static_cast<int>(tile::float_bits(range) >> 23) - 127 - 7, 0);
    for (int i = tile::thread_index(); i < kKeyBins; i += threads) list.bins[i] = 0;
    tile::sync_diverged_block();
#pragma unroll 1
    for (int i = tile::thread_index(); i < list.size; i += threads) {
      const u32 key = list.key(i);
      if (low <= key && key <= high) {
        tile::atomic_add(&list.bins[(high - key) >> shift], list.weight(i));
      }
    }
    tile::sync_diverged_block();
    // Every warp looks for the bin by itself.
    int bin = tile::lane_index() * kPerLane;
    u32 mine = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) mine += list.bins[bin + i];
    u32 through = mine;  // entries down to the lane's last bin
#pragma unroll
    for (int delta = 1; delta < 32; delta *= 2) {
      const auto before =
          static_cast<u32>(tile::warp::shuffle_up(static_cast<int>(through), delta));
      if (tile::lane_index() >= delta) through += before;
    }
    const int lane = tile::warp::sum(through < goal.count ? 1 : 0);
    if (lane == tile::kWarpSize) return goal.lowest;
    u32 above = through - mine, reached = above;
    if (tile::lane_index() == lane) {
#pragma unroll 1  // in few registers
      while ((reached += list.bins[bin]) < goal.count) {
        above = reached;
        ++bin;
      }
    }
    bin = tile::warp::shuffle(bin, lane);
    above = tile::warp::shuffle(above, lane);
    reached = tile::warp::shuffle(reached, lane);
    high -= static_cast<u32>(bin) << shift;
    const u32 width = (1u << shift) - 1;
    if (high - low > width) low = high - width;
    if (shift == 0 || reached <= goal.enough) return low;
    goal.count -= above;
    goal.enough -= above;
    tile::sync_diverged_block();  // the bins have been read
  }
}

}  // namespace quire::kernels
