// Grid: 1. Block: any number of warps. Smem: none. Output: out [16, threads], one row a collective.
#pragma once

#include "primitive_types.h"
#include "tile/warp.h"

namespace quire::kernels {

// a: f32 [threads]. Lane argument: n.
template <PrimitiveConfig c>
void shuffles(const PrimitiveParams& p) {
  const int thread = tile::thread_index(), threads = tile::num_threads();
  const float x = static_cast<const float*>(p.a)[thread];
  const int i = static_cast<int>(x);
  const u32 u = tile::float_bits(x);
  float* out = static_cast<float*>(p.out) + thread;
  out[0 * threads] = tile::warp::shuffle_xor(x, c.n);
  out[1 * threads] = static_cast<float>(tile::warp::shuffle_xor(i, c.n));
  out[2 * threads] = tile::float_from_bits(tile::warp::shuffle_xor(u, c.n));
  out[3 * threads] = tile::warp::shuffle(x, c.n);
  out[4 * threads] = static_cast<float>(tile::warp::shuffle(i, c.n));
  out[5 * threads] = tile::float_from_bits(tile::warp::shuffle(u, c.n));
  out[6 * threads] = tile::warp::shuffle_up(x, c.n);
  out[7 * threads] = static_cast<float>(tile::warp::shuffle_up(i, c.n));
  // Every lane its own source.
  out[8 * threads] = tile::warp::shuffle(x, (tile::lane_index() * 5 + c.n) % tile::kWarpSize);
}

// a: f32 [threads]; the predicate is a > count. out: i32 [3, threads].
template <PrimitiveConfig c>
void votes(const PrimitiveParams& p) {
  const int thread = tile::thread_index(), threads = tile::num_threads();
  const bool above = static_cast<const float*>(p.a)[thread] > static_cast<float>(p.count);
  i32* out = static_cast<i32*>(p.out) + thread;
  out[0 * threads] = static_cast<i32>(tile::warp::ballot(above));
  out[1 * threads] = tile::warp::any(above);
  out[2 * threads] = tile::warp::all(above);
}

// a: f32 [threads], whole numbers. Over n neighbouring lanes. out: f32 [3, threads].
template <PrimitiveConfig c>
void reductions(const PrimitiveParams& p) {
  const int thread = tile::thread_index(), threads = tile::num_threads();
  const float x = static_cast<const float*>(p.a)[thread];
  float* out = static_cast<float*>(p.out) + thread;
  out[0 * threads] = tile::warp::sum<c.n>(x);
  out[1 * threads] = tile::warp::max<c.n>(x);
  out[2 * threads] = static_cast<float>(tile::warp::sum<c.n>(static_cast<int>(x)));
}

}  // namespace quire::kernels
