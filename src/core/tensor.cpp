#include "quire/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "quire/error.h"

namespace quire {

std::size_t size_bytes(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::i64:
      return 8;
    case DType::f8e4m3:
    case DType::f8e5m2:
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  throw Error(ErrorCode::wrong_type,
              fmt::format("size_bytes: dtype: got {}, expected a DType", static_cast<int>(dtype)));
}

std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::f8e4m3:
      return "f8e4m3";
    case DType::f8e5m2:
      return "f8e5m2";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::boolean:
      return "boolean";
  }
  return "unknown";
}

TensorView TensorView::contiguous(void* data, DType dtype, std::span<const std::int64_t> shape,
                                  Device device) {
  if (shape.size() > kMaxRank) {
    throw Error(ErrorCode::invalid_argument, fmt::format("contiguous: shape: got rank {}, expected "
                                                         "at most {}",
                                                         shape.size(), kMaxRank));
  }
  TensorView view{data, dtype, device, static_cast<int>(shape.size()), {}, {}};
  std::int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    const std::int64_t size = shape[static_cast<std::size_t>(i)];
    view.shape[i] = size;
    view.strides[i] = stride;
    // A size of 0 keeps the strides of the outer dimensions positive.
    if (size < 0 || __builtin_mul_overflow(stride, size > 0 ? size : 1, &stride)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("contiguous: shape: got [{}], expected sizes >= 0 with a product "
                              "that fits 64 bits",
                              fmt::join(shape, ", ")));
    }
  }
  return view;
}

std::int64_t TensorView::numel() const {
  std::int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= shape[i];
  return count;
}

bool TensorView::is_contiguous() const {
  std::int64_t expected = 1;
  bool matches = true;
  for (int i = rank - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) matches = false;
    expected *= shape[i];
  }
  return matches;
}

TensorView TensorView::slice(int dim, std::int64_t begin, std::int64_t end) const {
  if (dim < 0 || dim >= rank) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("slice: dim: got {}, expected 0 to {}", dim, rank - 1));
  }
  if (begin < 0 || begin > end || end > shape[dim]) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("slice: range: got [{}, {}), expected a range within [0, {})", begin,
                            end, shape[dim]));
  }
  TensorView view = *this;
  view.shape[dim] = end - begin;
  if (view.data != nullptr && begin > 0) {
    view.data = static_cast<char*>(data) +
                begin * strides[dim] * static_cast<std::int64_t>(quire::size_bytes(dtype));
  }
  return view;
}

std::string to_string(const TensorView& tensor) {
  const std::span shape(tensor.shape.data(), static_cast<std::size_t>(tensor.rank));
  const std::span strides(tensor.strides.data(), static_cast<std::size_t>(tensor.rank));
  return fmt::format("{} [{}] strides [{}] on {}", name(tensor.dtype), fmt::join(shape, ", "),
                     fmt::join(strides, ", "), to_string(tensor.device));
}

}  // namespace quire
