// out[row, i] = act(input[row, i]) * input[row, hidden + i], to the dtype of the input or to fp8.
//
// Grid:   `parts` blocks a row, those of a row side by side: they run at the same time, and memory
//         likes neighbours
// Block:  c.threads, whole warps
// Smem:   none
// Output: out and computed_scales
// Needs:  any GPU
#pragma once

#include "activation/activation_types.h"
#include "tile/warp.h"
#include "tile/word.h"

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
    // The last bit is not worth a division: with it, scales included, this takes 4 to 9 % longer.
    return x * tile::reciprocal_approx(1.f + tile::exp_f32(-u));
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
  const u32 block = static_cast<u32>(tile::block_index());
  const u32 row = block / static_cast<u32>(p.parts), part = block - row * p.parts;
  i64 column = (static_cast<i64>(part) * c.threads + tile::thread_index()) * kElems;
  const bool live = column < p.hidden;
  if (!kComputed && !live) return;
  if (!live) column = 0;  // as good as any, for the warp to meet

  const ActivationRow at = find_row(p, static_cast<i32>(row));
  const T* input = static_cast<const T*>(p.input) + at.input + column;
  tile::word_t<kVec * sizeof(T)> gates[kElems / kVec], ups[kElems / kVec];
#pragma unroll
  for (int i = 0; i < kElems / kVec; ++i) {
    gates[i] = tile::load_word<kVec>(input + i * kVec);
    ups[i] = tile::load_word<kVec>(input + p.hidden + i * kVec);
  }
  float x[kElems];
#pragma unroll
  for (int i = 0; i < kElems / kVec; ++i) {
    float gate[kVec], up[kVec];
    tile::unpack_word<T>(gate, gates[i]);
    tile::unpack_word<T>(up, ups[i]);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[i * kVec + j] = activate<c.activation>(gate[j]) * up[j];
  }
  float inverse = 1;  // of the scale
  if constexpr (c.scaling == Scaling::given) {
    inverse = 1.f / (p.given_scale != nullptr ? *p.given_scale : p.scale_value);
  }
  if constexpr (kComputed) {
    float amax = 0;
#pragma unroll
    for (int j = 0; j < kElems; ++j) amax = tile::max_f32(amax, tile::abs_f32(x[j]));
    amax = tile::warp::max<kScaleGroup / kElems>(amax);
    const float scale = fp8_scale(amax, c.out_dtype, p.power_of_two);
    if (live && column % kScaleGroup == 0) {
      p.computed_scales[at.scale + column / kScaleGroup * p.scale_group_stride] = scale;
    }
    inverse = 1.f / scale;
  }
  if (!live) return;
  if constexpr (c.scaling != Scaling::none) {
#pragma unroll
    for (int j = 0; j < kElems; ++j) x[j] *= inverse;
  }
  tile::store_by<kVec>(static_cast<Out*>(p.out) + at.out + column, x);
}

}  // namespace quire::kernels
