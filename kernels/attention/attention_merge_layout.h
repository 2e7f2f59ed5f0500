// How attention_merge shares its rows out, known to the host and to the kernel.
#pragma once

#include "dtype.h"

namespace quire::kernels {

constexpr i32 kMergeThreads = 128;

// Lanes that join one row, 8 columns each at a time.
constexpr i32 merge_row_lanes(i32 head_dim) {
  return head_dim <= 64 ? 8 : head_dim <= 128 ? 16 : 32;
}
constexpr i32 merge_block_rows(i32 head_dim) { return kMergeThreads / merge_row_lanes(head_dim); }

}  // namespace quire::kernels
