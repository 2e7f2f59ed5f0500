// fp8 back to wider floating point: element * scale of its tile.
//
// Grid:   x: any number of blocks, block b takes rows b, b + grid …; y: shares of a row
// Block:  c.threads, an access each
// Smem:   none
// Output: out
// Needs:  any GPU
#pragma once

#include "quantize/quantize_types.h"
#include "tile/vec.h"

namespace quire::kernels {

template <DequantizeConfig c>
void dequantize(const DequantizeParams& p) {
  using T = tile::storage_t<c.dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  constexpr int kVec = c.vec_elems;
  const i64 col =
      (static_cast<i64>(tile::block_index_y()) * c.threads + tile::thread_index()) * kVec;
  if (col >= p.cols) return;
  for (i64 row = tile::block_index(); row < p.rows; row += tile::num_blocks()) {
    const float scale = p.scales != nullptr ? p.scales[row / p.tile_rows * p.scale_row_stride +
                                                       col / p.tile_cols * p.scale_col_stride]
                                            : p.scale_value;
    float x[kVec];
    tile::load<kVec>(x, static_cast<const T*>(p.input) + row * p.input_stride + col);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] *= scale;
    constexpr int kAccess = tile::min_of(kVec, 16 / size_bytes(c.out_dtype));
    tile::store_by<kAccess>(static_cast<Out*>(p.out) + row * p.out_stride + col, x);
  }
}

}  // namespace quire::kernels
