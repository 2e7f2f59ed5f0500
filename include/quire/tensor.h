// A non-owning view of a strided tensor. <quire/dlpack.h> converts it from and to DLPack.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "quire/device.h"

namespace quire {

enum class DType : std::uint8_t { f32, f16, bf16, f8e4m3, f8e5m2, i32, i64, u8, boolean };

std::size_t size_bytes(DType dtype);  // bytes of one element
std::string_view name(DType dtype);   // "f32", "bf16", …

inline constexpr int kMaxRank = 8;

// Shape and strides count elements; strides may be anything (0 and negative included), an operator
// says what it accepts. Views are cheap to copy. The memory belongs to the caller.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Device device{};
  int rank = 0;
  std::array<std::int64_t, kMaxRank> shape{};
  std::array<std::int64_t, kMaxRank> strides{};

  // A row-major view. Throws invalid_argument when the rank exceeds kMaxRank or a size is negative.
  static TensorView contiguous(void* data, DType dtype, std::span<const std::int64_t> shape,
                               Device device = kCpu);
  static TensorView contiguous(void* data, DType dtype, std::initializer_list<std::int64_t> shape,
                               Device device = kCpu) {
    return contiguous(data, dtype, std::span(shape.begin(), shape.size()), device);
  }

  std::int64_t numel() const;
  bool is_contiguous() const;
  // Elements [begin, end) of dimension `dim`; same rank.
  TensorView slice(int dim, std::int64_t begin, std::int64_t end) const;
};

// "bf16 [8, 32, 128] strides [4096, 128, 1] on cuda:0"
std::string to_string(const TensorView& tensor);

}  // namespace quire
