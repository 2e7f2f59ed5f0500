// Rows of any floating-point dtype as f32, for the simple operators of the CPU backend.
#pragma once

#include <cstdint>

#include "dtype.h"

namespace quire::cpu {

// Rows are handled in pieces of this many elements, so that f32 copies fit on the stack.
inline constexpr int kRowPiece = 1024;

// Elements below which starting threads costs more than it saves.
inline constexpr std::int64_t kMinParallelElements = 1 << 15;

// Converts elements [offset, offset + n) of f32, f16, bf16 or fp8 data. Round to nearest even; fp8
// saturates.
void load_row(float* dst, const void* src, kernels::DType dtype, std::int64_t offset, int n);
void store_row(void* dst, kernels::DType dtype, std::int64_t offset, const float* src, int n);

// Calls body(begin, n) for every piece of a row.
template <class Body>
void for_each_piece(int size, Body&& body) {
  for (int begin = 0; begin < size; begin += kRowPiece) {
    body(begin, size - begin < kRowPiece ? size - begin : kRowPiece);
  }
}

}  // namespace quire::cpu
