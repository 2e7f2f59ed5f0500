#include "cpu/float_rows.h"

#include <bit>
#include <cstring>

#include "core/numeric.h"

namespace quire::cpu {
namespace {

// numeric::Half is the readable definition; these are the same numbers without branches or ldexp.
float half_to_float(std::uint16_t x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x & 0x7fffu) << 13;
  // The exponent bias goes from 15 to 127; the product also normalises denormals.
  std::uint32_t bits = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  if (magnitude >= 0x7c00u << 13) bits |= 0x7f800000u;  // infinity and NaN
  return std::bit_cast<float>(sign | bits);
}

std::uint16_t float_to_half(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Below 2^-14 an addition of 0.5 rounds to units of 2^-24, the denormals' spacing.
  const std::uint32_t denormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  std::uint32_t half = magnitude < 0x38800000u ? denormal : normal;
  if (magnitude >= 0x47800000u) half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace

void to_float(const void* src, DType dtype, std::int64_t count, float* dst) {
  if (dtype == DType::f32) {
    std::memcpy(dst, src, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* x = static_cast<const std::uint16_t*>(src);
  if (dtype == DType::bf16) {
    for (std::int64_t i = 0; i < count; ++i) dst[i] = numeric::bf16_to_float(x[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) dst[i] = half_to_float(x[i]);
  }
}

void from_float(const float* src, std::int64_t count, DType dtype, void* dst) {
  if (dtype == DType::f32) {
    std::memcpy(dst, src, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* y = static_cast<std::uint16_t*>(dst);
  if (dtype == DType::bf16) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = numeric::float_to_bf16(src[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) y[i] = float_to_half(src[i]);
  }
}

}  // namespace quire::cpu
