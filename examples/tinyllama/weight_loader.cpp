#include "weight_loader.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace tinyllama {

using quire::DType;
using quire::TensorView;

namespace {

float float_of_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

float float_of_f16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float sign = bits >> 15 ? -1.f : 1.f;
  if (exponent == 31) return sign * (mantissa ? NAN : INFINITY);
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

std::uint16_t bf16_of_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 64);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to nearest even
}

// Files promise no alignment, hence memcpy for every element.
template <class From, class To, class F>
std::vector<To> convert(const TensorView& from, F&& element) {
  std::vector<To> result(static_cast<std::size_t>(from.numel()));
  const auto* bytes = static_cast<const std::byte*>(from.data);
  for (std::size_t i = 0; i < result.size(); ++i) {
    From value;
    std::memcpy(&value, bytes + i * sizeof(From), sizeof(From));
    result[i] = element(value);
  }
  return result;
}

}  // namespace

DeviceTensor WeightLoader::vector(const std::string& name, std::int64_t size) const {
  DeviceTensor tensor({size}, dtype_, device_);
  copy_converted(files_.get(name, std::array{size}), tensor.view().data);
  return tensor;
}

DeviceTensor WeightLoader::matrix(std::initializer_list<NamedRows> parts,
                                  std::int64_t columns) const {
  std::int64_t rows = 0;
  for (const NamedRows& part : parts) rows += part.rows;
  DeviceTensor tensor({rows, columns}, dtype_, device_);
  auto* to = static_cast<std::byte*>(tensor.view().data);
  for (const NamedRows& part : parts) {
    copy_converted(files_.get(part.name, std::array{part.rows, columns}), to);
    to += static_cast<std::size_t>(part.rows * columns) * quire::size_bytes(dtype_);
  }
  return tensor;
}

void WeightLoader::copy_converted(const TensorView& from, void* to) const {
  const auto copy = [&](const void* data) {
    const auto bytes = static_cast<std::size_t>(from.numel()) * quire::size_bytes(dtype_);
    quire::copy(to, device_, data, quire::kCpu, bytes);
  };
  if (from.dtype == dtype_) {
    copy(from.data);
  } else if (from.dtype == DType::bf16 && dtype_ == DType::f32) {
    copy(convert<std::uint16_t, float>(from, float_of_bf16).data());
  } else if (from.dtype == DType::f16 && dtype_ == DType::f32) {
    copy(convert<std::uint16_t, float>(from, float_of_f16).data());
  } else if (from.dtype == DType::f32 && dtype_ == DType::bf16) {
    copy(convert<float, std::uint16_t>(from, bf16_of_float).data());
  } else {
    throw quire::Error(quire::ErrorCode::not_implemented,
                       fmt::format("model: weights: got {}, expected {} or f32",
                                   quire::name(from.dtype), quire::name(dtype_)));
  }
}

}  // namespace tinyllama
