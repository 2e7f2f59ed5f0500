// out[row, i] = act(input[row, i]) * input[row, hidden + i], to the dtype of the input or to fp8.
//
// Grid:   x: any number of blocks, block b takes rows b, b + grid …;
//         y: ceil(hidden / (threads * elements a thread))
// Block:  c.threads, whole warps
// Smem:   none
// Output: out and computed_scales
// Needs:  any GPU
#pragma once

#include "activation/activation_types.h"
#include "tile/vec.h"
#include "tile/warp.h"

namespace quire::kernels {

template <Activation activation>
inline float activate(float x) {
  if constexpr (activation == Activation::gelu) {
    constexpr float kRootHalf = 0.7071067811865476f;
    return 0.5f * x * (1.f + tile::erf_f32(x * kRootHalf));
  } else {
    // 0.5 (1 + tanh(u)) is the sigmoid of 2 u, without the difference of numbers near 1.
    constexpr float kTwoRootTwoOverPi = 1.5957691216057308f;
    const float u = activation == Activation::silu
                        ? x
                        : kTwoRootTwoOverPi * tile::fma_f32(0.044715f * x * x, x, x);
    return x / (1.f + tile::exp_f32(-u));
  }
}

template <ActivationConfig c>
void activate_and_mul(const ActivationParams& p) {
  using T = tile::storage_t<c.dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  constexpr int kVec = c.vec_elems;
  // Elements a thread: a group of computed scales is at most a warp's.
  constexpr bool kComputed = c.scaling == Scaling::computed;
  constexpr int kElems = kComputed ? tile::max_of(kVec, kScaleGroup / 32) : kVec;
  const i64 column =
      (static_cast<i64>(tile::block_index_y()) * c.threads + tile::thread_index()) * kElems;
  const bool live = column < p.hidden;
  if (!kComputed && !live) return;  // else the warp still meets

  float inverse = 1;  // of the scale
  if constexpr (c.scaling == Scaling::given) {
    inverse = 1.f / (p.given_scale != nullptr ? *p.given_scale : p.scale_value);
  }
  for (i64 row = tile::block_index(); row < p.rows; row += tile::num_blocks()) {
    const ActivationRow at = find_row(p, static_cast<i32>(row));
    float gate[kElems] = {};
    if (live) {
      const T* input = static_cast<const T*>(p.input) + at.input + column;
      float up[kElems];
      tile::load_by<kVec>(gate, input);
      tile::load_by<kVec>(up, input + p.hidden);
#pragma unroll
      for (int j = 0; j < kElems; ++j) gate[j] = activate<c.activation>(gate[j]) * up[j];
    }
    if constexpr (kComputed) {
      float amax = 0;
#pragma unroll
      for (int j = 0; j < kElems; ++j) amax = tile::max_f32(amax, tile::abs_f32(gate[j]));
      amax = tile::warp::max<kScaleGroup / kElems>(amax);
      const float scale = fp8_scale(amax, c.out_dtype, p.power_of_two);
      if (live && column % kScaleGroup == 0) {
        p.computed_scales[at.scale + column / kScaleGroup * p.scale_group_stride] = scale;
      }
      inverse = 1.f / scale;
    }
    if (!live) continue;
    if constexpr (c.scaling != Scaling::none) {
#pragma unroll
      for (int j = 0; j < kElems; ++j) gate[j] *= inverse;
    }
    tile::store_by<kVec>(static_cast<Out*>(p.out) + at.out + column, gate);
  }
}

}  // namespace quire::kernels
