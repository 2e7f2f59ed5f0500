// What fp8 quantization, and bit packing, share between host and device.
#pragma once

#include "quantize/scale_types.h"

namespace quire::kernels {

struct QuantizeConfig {
  DType dtype = DType::bf16;
  DType out_dtype = DType::f8e4m3;
  Scaling scaling = Scaling::computed;
  i32 vec_elems = 1;  // elements an access; divides the columns of tensor and tile, every stride
  i32 threads = 128;  // a block; a multiple of threads_per_tile
  i32 threads_per_tile = 32;  // power of two; more than a warp have the block alone
  i32 vecs_per_thread = 0;    // accesses of a tile kept in registers; 0: tiles are read twice
  bool one_row = false;       // tiles have one row

  bool operator==(const QuantizeConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const QuantizeConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("out_dtype", c.out_dtype);
  visit("scaling", c.scaling);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("threads_per_tile", c.threads_per_tile);
  visit("vecs_per_thread", c.vecs_per_thread);
  visit("one_row", c.one_row);
}

// Tiles of tile_rows x tile_cols share a scale; those at the ends may be smaller. Elements.
struct QuantizeParams {
  const void* input;         // [rows, cols]
  void* out;                 // [rows, cols]
  const float* given_scale;  // [1], or null: scale_value
  float* computed_scales;    // [ceil(rows / tile_rows), ceil(cols / tile_cols)]
  i64 input_stride, out_stride;
  i64 scale_row_stride, scale_col_stride;
  i64 num_tiles;
  i32 rows, cols, tile_rows, tile_cols;
  i32 tiles_across;
  float scale_value;
  bool power_of_two;  // of computed scales
};

struct DequantizeConfig {
  DType dtype = DType::f8e4m3;
  DType out_dtype = DType::bf16;
  i32 vec_elems = 1;  // elements an access; divides the columns of tensor and tile, every stride
  i32 threads = 256;
  i32 vecs_per_thread = 4;

  bool operator==(const DequantizeConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const DequantizeConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("out_dtype", c.out_dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("vecs_per_thread", c.vecs_per_thread);
}

struct DequantizeParams {
  const void* input;    // [rows, cols]
  void* out;            // [rows, cols]
  const float* scales;  // of the tiles, or null: scale_value
  i64 input_stride, out_stride;
  i64 scale_row_stride, scale_col_stride;
  i32 rows, cols, tile_rows, tile_cols;
  i32 parts;  // blocks a row, set by the CUDA backend
  float scale_value;
};

// Bit packing: one thread a byte.
struct PackConfig {
  bool big_endian = true;  // the first element is the highest bit
  i32 threads = 256;

  bool operator==(const PackConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const PackConfig& c, Visitor&& visit) {
  visit("big_endian", c.big_endian);
  visit("threads", c.threads);
}

struct PackParams {
  const u8* x;            // [num_elements], 0 is false
  u8* out;                // [num_bytes]
  const i32* indptr;      // [segments + 1], elements; null: one segment
  const i32* out_indptr;  // [segments + 1], bytes
  i64 x_stride;
  i64 num_elements, num_bytes;
  i32 segments;
};

// Byte `at` of the output; bounded for any bytes in the index arrays.
constexpr u8 packed_byte(const PackParams& p, i64 at, bool big_endian) {
  i64 first = at * 8, end = p.num_elements;
  if (p.indptr != nullptr) {
    i32 low = 0, high = p.segments;  // the last segment that begins at or before the byte
    while (high - low > 1) {
      const i32 middle = low + (high - low) / 2;
      if (p.out_indptr[middle] <= at) {
        low = middle;
      } else {
        high = middle;
      }
    }
    first = p.indptr[low] + (at - p.out_indptr[low]) * 8;
    end = p.indptr[low + 1] < p.num_elements ? p.indptr[low + 1] : p.num_elements;
  }
  u32 byte = 0;
  for (int bit = 0; bit < 8; ++bit) {
    const i64 i = first + bit;
    if (i < 0 || i >= end || p.x[i * p.x_stride] == 0) continue;
    byte |= 1u << (big_endian ? 7 - bit : bit);
  }
  return static_cast<u8>(byte);
}

}  // namespace quire::kernels
