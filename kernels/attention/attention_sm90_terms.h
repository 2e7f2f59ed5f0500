// The softmax of rows in attention_sm90, and terms of 8 bits.
#pragma once

#include "tile/convert.h"
#include "tile/math.h"
#include "tile/word.h"

namespace quire::kernels {

// Softmax of the two rows (g and g + 8) that a thread shares with the three others of its quad.
struct RowState {
  // What the terms are relative to, in log2 units. Finite before the first term too, so that no
  // difference of two is NaN.
  static constexpr float kUnset = -1e30f;
  float offset[2] = {kUnset, kUnset};
  float sum[2] = {};  // this thread's part
};

// Steps [begin, end) of P from S, in 8 bits. A word of A is four tokens: two of each of two
// 8-column blocks, in the order that V comes in. sum: of the terms of the two rows, begun by step
// 0. peak: the bits of the largest exponent: what is above 0 compares like an integer, and three
// are compared at a time.
template <class T, int begin, int end>
__forceinline__ void weigh_fp8(const float* s, const float (&to_base2)[2], const RowState& rows,
                               u32 (&to)[end - begin][4], float (&sum)[2], int& peak) {
#pragma unroll
  for (int step = begin; step < end; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* x = s + step * 16 + i / 2 * 8 + i % 2 * 2;
      const int r = i % 2;
      float term[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float exponent = tile::fma_f32(x[j / 2 * 4 + j % 2], to_base2[r], -rows.offset[r]);
        peak = tile::max_of(peak, static_cast<int>(tile::float_bits(exponent)));
        term[j] = tile::exp2_approx(exponent);
        sum[r] = step == 0 && i < 2 && j == 0 ? term[j] : sum[r] + term[j];
      }
      to[step - begin][i] = tile::narrow4<T>(term[0], term[1], term[2], term[3]);
    }
  }
}

}  // namespace quire::kernels
