// DLPack (https://dmlc.github.io/dlpack) in and out, without needing its header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "quire/tensor.h"

namespace quire {

// DLPack's DLTensor, by its ABI.
struct DlpackTensor {
  void* data;
  std::int32_t device_type;  // 1 CPU, 2 CUDA, 3 pinned host, 13 CUDA managed
  std::int32_t device_id;
  std::int32_t ndim;
  std::uint8_t type_code;
  std::uint8_t type_bits;
  std::uint16_t type_lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // null: row-major
  std::uint64_t byte_offset;
};

// Throws wrong_type for dtypes that have no DType, not_implemented for devices other than CPU,
// pinned host and CUDA, invalid_argument for a rank above kMaxRank or a negative size.
TensorView from_dlpack(const DlpackTensor& tensor);

// `shape_and_strides` must hold 2 * rank elements and outlive the result.
DlpackTensor to_dlpack(const TensorView& tensor, std::span<std::int64_t> shape_and_strides);

// The same for the DLTensor of <dlpack/dlpack.h>, whichever version of it the caller has.
template <class DLTensor>
TensorView from_dlpack(const DLTensor& tensor) {
  static_assert(std::is_trivially_copyable_v<DLTensor> && sizeof(DLTensor) == sizeof(DlpackTensor));
  static_assert(offsetof(DLTensor, shape) == offsetof(DlpackTensor, shape));
  DlpackTensor copy;
  std::memcpy(&copy, &tensor, sizeof(copy));
  return from_dlpack(copy);
}

template <class DLTensor>
DLTensor to_dlpack(const TensorView& tensor, std::span<std::int64_t> shape_and_strides) {
  static_assert(std::is_trivially_copyable_v<DLTensor> && sizeof(DLTensor) == sizeof(DlpackTensor));
  static_assert(offsetof(DLTensor, shape) == offsetof(DlpackTensor, shape));
  const DlpackTensor source = to_dlpack(tensor, shape_and_strides);
  DLTensor result;
  std::memcpy(&result, &source, sizeof(result));
  return result;
}

}  // namespace quire
