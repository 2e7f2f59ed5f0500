// What the fake driver writes into the 128 bytes of a tensor map, and the copy engine reads.
#pragma once

#include <optional>
#include <string>

#include "dtype.h"

namespace quire::emulator {

struct TensorMapInfo {
  static constexpr int kMaxRank = 5;
  int rank = 0;
  int element_bytes = 0;
  int swizzle_bytes = 0;  // 0, 32, 64 or 128
  kernels::u64 base = 0;
  kernels::u64 dims[kMaxRank] = {};     // innermost first
  kernels::u64 strides[kMaxRank] = {};  // bytes; of the innermost: an element
  kernels::u32 box[kMaxRank] = {};

  int inner_bytes() const { return static_cast<int>(box[0]) * element_bytes; }
  int box_rows() const;  // of inner_bytes() each
};

// No word but the base's can be taken for an address.
void encode(const TensorMapInfo& info, kernels::u64 (&words)[16]);
// Nothing when the driver has not written it.
std::optional<TensorMapInfo> decode_tensor_map(const kernels::u64* words);

}  // namespace quire::emulator
