// Grid: any. Block: any. Smem: none. Output: out f32 [14, count], one row a function of a and b.
#pragma once

#include "primitive_types.h"
#include "tile/math.h"

namespace quire::kernels {

template <PrimitiveConfig c>
void functions(const PrimitiveParams& p) {
  const int i = tile::block_index() * tile::num_threads() + tile::thread_index();
  if (i >= p.count) return;
  const float x = static_cast<const float*>(p.a)[i], y = static_cast<const float*>(p.b)[i];
  float sine, cosine;
  tile::sincos_f32(x, sine, cosine);
  const float results[14] = {tile::exp2_approx(x),
                             tile::log2_approx(x),
                             tile::rsqrt_approx(x),
                             tile::exp_f32(x),
                             tile::log_f32(x),
                             tile::pow_f32(x, y),
                             tile::tanh_f32(x),
                             tile::sqrt_f32(x),
                             sine,
                             cosine,
                             tile::fma_f32(x, y, 1.f),
                             tile::max_f32(x, y),
                             tile::min_f32(x, y),
                             tile::is_nan(x) ? 1.f : 0.f};
  for (int f = 0; f < 14; ++f) static_cast<float*>(p.out)[f * p.count + i] = results[f];
}

}  // namespace quire::kernels
