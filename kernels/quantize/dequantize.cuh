// fp8 back to wider floating point: element * scale of its tile.
//
// Grid:   `parts` blocks a row, those of a row side by side
// Block:  c.threads, c.vecs_per_thread accesses each
// Smem:   none
// Output: out
// Needs:  any GPU
//
// An access is what 16 bytes of the output hold, so that a warp's stores lie side by side: of the
// bytes moved most are written.
#pragma once

#include "quantize/quantize_types.h"
#include "tile/word.h"

namespace quire::kernels {

template <DequantizeConfig c>
void dequantize(const DequantizeParams& p) {
  using T = tile::storage_t<c.dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  constexpr int kVec = c.vec_elems, kVecs = c.vecs_per_thread;
  const u32 block = static_cast<u32>(tile::block_index()), parts = p.parts;
  const i64 row = block / parts;
  const int first = static_cast<int>(block % parts) * c.threads * kVecs + tile::thread_index();
  const int num_vecs = p.cols / kVec;
  const T* input = static_cast<const T*>(p.input) + row * p.input_stride;
  const float* scales = p.scales;
  const u32 tile_rows = p.tile_rows, tile_cols = p.tile_cols;
  if (scales != nullptr) scales += static_cast<u32>(row) / tile_rows * p.scale_row_stride;
  tile::word_t<kVec> codes[kVecs];
  float scale[kVecs];
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int vec = first + i * c.threads < num_vecs ? first + i * c.threads : 0;
    codes[i] = *reinterpret_cast<const tile::word_t<kVec>*>(input + vec * kVec);
    scale[i] = scales != nullptr
                   ? scales[static_cast<u32>(vec * kVec) / tile_cols * p.scale_col_stride]
                   : p.scale_value;
  }
  Out* out = static_cast<Out*>(p.out) + row * p.out_stride;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int vec = first + i * c.threads;
    if (vec >= num_vecs) break;
    float x[kVec];
    tile::unpack_word<T>(x, codes[i]);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] *= scale[i];
    tile::store<kVec>(out + vec * kVec, x);
  }
}

}  // namespace quire::kernels
