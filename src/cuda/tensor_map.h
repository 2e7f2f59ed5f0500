// Descriptions of tensors for the copy engine of sm_90 and later.
#pragma once

#include <array>
#include <cstdint>

#include "tile/tensor_map_types.h"

namespace quire::cuda {

// Four or five dimensions of 16-bit or 8-bit elements, innermost (contiguous) first.
struct BoxedTensor {
  int rank = 4;
  const void* data = nullptr;                // 16-byte aligned
  std::array<std::int64_t, 5> shape = {};    // 1 or more
  std::array<std::int64_t, 4> strides = {};  // of dimensions 1 and up, elements; 16-byte multiples
  std::array<std::int32_t, 5> box = {};      // at most 256 each; box[0] is 128 bytes
  int element_bytes = 2;                     // or 1
};

// With the 128-byte swizzle; what lies outside the tensor reads as zeros. Throws Error{driver}
// where the driver refuses.
tile::TensorMap make_tensor_map(const BoxedTensor& tensor);

}  // namespace quire::cuda
