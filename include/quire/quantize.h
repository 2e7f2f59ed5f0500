// Quantization to fp8 and back, and bit packing.
#pragma once

#include <optional>

#include "quire/fp8_scale.h"
#include "quire/tensor.h"

namespace quire {

// Elements that share a scale: rows x cols neighbours of a matrix. Those at its ends may be fewer.
struct ScaleBlock {
  int rows = 1;
  int cols = 0;  // 0: a whole row

  static ScaleBlock per_token() { return {1, 0}; }
  static ScaleBlock per_group() { return {1, 128}; }    // of a token
  static ScaleBlock per_block() { return {128, 128}; }  // of a weight
};

// input [rows, cols] f32/f16/bf16, out [rows, cols] f8e4m3 or f8e5m2, any row strides, last
// dimension contiguous. A given scale is one of the whole matrix, and `block` is not used; computed
// scales are f32 [ceil(rows / block.rows), ceil(cols / block.cols)], any strides (column-major
// too).
void quantize_fp8(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                  const ScaleBlock& block = {}, Stream stream = {});

// out = input * scale. scale: a number, a tensor of one element, or of rank 2 as computed scales
// are. input f8e4m3 or f8e5m2, out f32/f16/bf16.
void dequantize_fp8(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                    const ScaleBlock& block = {}, Stream stream = {});

enum class BitOrder : std::uint8_t {
  big,     // element 0 is the highest bit of byte 0, as numpy.packbits
  little,  // element 0 is the lowest bit
};

// x boolean or u8 [n] (0 is false), any stride; out u8 [ceil(n / 8)], contiguous; missing elements
// of the last byte are 0.
void packbits(const TensorView& x, const TensorView& out, BitOrder order = BitOrder::big,
              Stream stream = {});

// Each segment x[indptr[r] .. indptr[r + 1]) by itself, to out[out_indptr[r] .. out_indptr[r + 1]),
// whose length is ceil(segment / 8). indptr, out_indptr i32 [segments + 1], contiguous, on the
// device of x, from 0 up to the sizes of x and out. On the CPU their values are checked; on CUDA
// what they say beyond x and out is not read or written.
void segment_packbits(const TensorView& x, const TensorView& indptr, const TensorView& out_indptr,
                      const TensorView& out, BitOrder order = BitOrder::big, Stream stream = {});

}  // namespace quire
