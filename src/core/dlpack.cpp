#include "quire/dlpack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "quire/error.h"

namespace quire {
namespace {

enum DeviceType { kDlCpu = 1, kDlCuda = 2, kDlCudaHost = 3, kDlCudaManaged = 13 };

struct TypeEntry {
  DType dtype;
  std::uint8_t code, bits;
};

// Codes of DLDataTypeCode.
constexpr std::array kTypes = {
    TypeEntry{DType::f32, 2, 32},    TypeEntry{DType::f16, 2, 16},
    TypeEntry{DType::bf16, 4, 16},   TypeEntry{DType::f8e4m3, 10, 8},
    TypeEntry{DType::f8e5m2, 12, 8}, TypeEntry{DType::i32, 0, 32},
    TypeEntry{DType::i64, 0, 64},    TypeEntry{DType::u8, 1, 8},
    TypeEntry{DType::boolean, 6, 8},
};

DType dtype_of(const DlpackTensor& tensor) {
  const auto entry = std::ranges::find_if(kTypes, [&](const TypeEntry& t) {
    return t.code == tensor.type_code && t.bits == tensor.type_bits;
  });
  if (entry == kTypes.end() || tensor.type_lanes != 1) {
    throw Error(ErrorCode::wrong_type,
                fmt::format("from_dlpack: dtype: got code {}, {} bits, {} lanes, expected f32, "
                            "f16, bf16, f8e4m3fn, f8e5m2, i32, i64, u8 or bool with one lane",
                            tensor.type_code, tensor.type_bits, tensor.type_lanes));
  }
  return entry->dtype;
}

Device device_of(const DlpackTensor& tensor) {
  switch (tensor.device_type) {
    case kDlCpu:
    case kDlCudaHost:
      return kCpu;
    case kDlCuda:
    case kDlCudaManaged:
      return cuda_device(tensor.device_id);
    default:
      throw Error(ErrorCode::not_implemented,
                  fmt::format("from_dlpack: device: got DLPack device type {}, expected 1 (CPU), "
                              "2 (CUDA), 3 (pinned host) or 13 (CUDA managed)",
                              tensor.device_type));
  }
}

}  // namespace

TensorView from_dlpack(const DlpackTensor& tensor) {
  if (tensor.ndim < 0 || tensor.ndim > kMaxRank) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("from_dlpack: ndim: got {}, expected 0 to {}", tensor.ndim, kMaxRank));
  }
  const DType dtype = dtype_of(tensor);
  const Device device = device_of(tensor);
  void* data = tensor.data;
  if (data != nullptr) data = static_cast<char*>(data) + tensor.byte_offset;
  auto view = TensorView::contiguous(
      data, dtype,
      std::span<const std::int64_t>(tensor.shape, static_cast<std::size_t>(tensor.ndim)), device);
  if (tensor.strides != nullptr) std::copy_n(tensor.strides, tensor.ndim, view.strides.begin());
  return view;
}

DlpackTensor to_dlpack(const TensorView& tensor, std::span<std::int64_t> shape_and_strides) {
  const auto rank = static_cast<std::size_t>(tensor.rank);
  if (shape_and_strides.size() < 2 * rank) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("to_dlpack: shape_and_strides: got {} elements, expected at least {}",
                            shape_and_strides.size(), 2 * rank));
  }
  const auto shape = shape_and_strides.first(rank);
  const auto strides = shape_and_strides.subspan(rank, rank);
  std::copy_n(tensor.shape.begin(), rank, shape.begin());
  std::copy_n(tensor.strides.begin(), rank, strides.begin());
  const auto& type = *std::ranges::find(kTypes, tensor.dtype, &TypeEntry::dtype);
  return {.data = tensor.data,
          .device_type = tensor.device.is_cpu() ? kDlCpu : kDlCuda,
          .device_id = tensor.device.index,
          .ndim = tensor.rank,
          .type_code = type.code,
          .type_bits = type.bits,
          .type_lanes = 1,
          .shape = shape.data(),
          .strides = strides.data(),
          .byte_offset = 0};
}

}  // namespace quire
