// Sums, prefix sums and maxima over the threads of a block, of 64-bit integers and of floats in a
// fixed order. Every thread of the block calls them; `scratch` holds one element a warp and may be
// used again at once.
#pragma once

#include "tile/warp.h"

namespace quire::kernels {

constexpr u64 join_words(u32 high, u32 low) { return static_cast<u64>(high) << 32 | low; }

inline u64 warp_shuffle_xor(u64 x, int mask) {
  const u32 high = tile::warp::shuffle_xor(static_cast<u32>(x >> 32), mask);
  return join_words(high, tile::warp::shuffle_xor(static_cast<u32>(x), mask));
}
inline u64 warp_shuffle_up(u64 x, int delta) {
  const auto high = static_cast<u32>(tile::warp::shuffle_up(static_cast<int>(x >> 32), delta));
  const auto low = static_cast<u32>(tile::warp::shuffle_up(static_cast<int>(x), delta));
  return join_words(high, low);
}

inline u64 warp_sum(u64 x) {
#pragma unroll
  for (int m = 16; m > 0; m /= 2) x += warp_shuffle_xor(x, m);
  return x;
}
inline u64 warp_max(u64 x) {
#pragma unroll
  for (int m = 16; m > 0; m /= 2) x = tile::max_of(x, warp_shuffle_xor(x, m));
  return x;
}
// Over this lane and those below.
inline u64 warp_prefix_sum(u64 x) {
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const u64 below = warp_shuffle_up(x, delta);
    if (tile::lane_index() >= delta) x += below;
  }
  return x;
}

// Every thread gets every warp's value.
template <class T>
inline void share_across_warps(T x, T* scratch, int from_lane) {
  tile::sync_diverged_block();  // what scratch held before has been read
  if (tile::lane_index() == from_lane) scratch[tile::warp_index()] = x;
  tile::sync_diverged_block();
}

template <int threads>
inline u64 block_max(u64 x, u64* scratch) {
  share_across_warps(warp_max(x), scratch, 0);
  u64 result = scratch[0];
#pragma unroll
  for (int w = 1; w < threads / 32; ++w) result = tile::max_of(result, scratch[w]);
  return result;
}

template <int threads>
inline float block_max(float x, float* scratch) {
  share_across_warps(tile::warp::max(x), scratch, 0);
  float result = scratch[0];
#pragma unroll
  for (int w = 1; w < threads / 32; ++w) result = tile::max_f32(result, scratch[w]);
  return result;
}

template <int threads>
inline float block_sum(float x, float* scratch) {
  share_across_warps(tile::warp::sum(x), scratch, 0);
  float result = scratch[0];
#pragma unroll
  for (int w = 1; w < threads / 32; ++w) result += scratch[w];
  return result;
}

struct PrefixSum {
  u64 before;  // sum over the threads below
  u64 total;   // sum over the block
};
template <int threads>
inline PrefixSum block_prefix_sum(u64 x, u64* scratch) {
  const u64 in_warp = warp_prefix_sum(x);
  share_across_warps(in_warp, scratch, 31);
  PrefixSum result{in_warp - x, 0};
#pragma unroll 4  // all at once the loads would need more registers than 1024 threads have
  for (int w = 0; w < threads / 32; ++w) {
    const u64 warp_total = scratch[w];
    if (w < tile::warp_index()) result.before += warp_total;
    result.total += warp_total;
  }
  return result;
}

}  // namespace quire::kernels
