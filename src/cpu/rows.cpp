#include "cpu/rows.h"

#include <array>
#include <cstring>

#include "core/numeric.h"

namespace quire::cpu {
namespace {

// numeric.h's conversions of f16 take a branch or a library call an element. These two are straight
// lines, which the compiler vectorises; a test holds them against numeric.h.

float half_to_float(std::uint16_t x) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x & 0x7fff) << 13;
  // The exponent is biased by 15, f32's by 127. Multiplying also normalises denormals.
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = (x & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
  const std::uint32_t sign = static_cast<std::uint32_t>(x & 0x8000) << 16;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

std::uint16_t float_to_half(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffff;
  // Normal: rebias, and round to even by adding just under half a unit plus the last bit kept.
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Denormal: adding 0.5 puts the last bit that f16 keeps into the last bit of f32.
  const std::uint32_t denormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00 : 0x7c00;
  std::uint32_t result = magnitude < 0x38800000u ? denormal : normal;
  result = magnitude >= 0x47800000u ? special : result;  // 2^16 and up, infinity, NaN
  return static_cast<std::uint16_t>(result | ((bits >> 16) & 0x8000));
}

// The 8-bit formats likewise: f32 bits dropped, largest value, smallest normal one, and what has
// the smallest denormal as its last bit.
struct E4m3Rounding {
  static constexpr int kShift = 20;
  static constexpr std::uint32_t kRebias = 120u << 23;
  static constexpr float kMax = 448.f, kMinNormal = 0x1p-6f, kToDenormal = 0x1p14f;
};
struct E5m2Rounding {
  static constexpr int kShift = 21;
  static constexpr std::uint32_t kRebias = 112u << 23;
  static constexpr float kMax = 57344.f, kMinNormal = 0x1p-14f, kToDenormal = 0x1p7f;
};

template <class Format>
std::uint8_t float_to_byte(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const float positive = std::bit_cast<float>(bits & 0x7fffffff);
  const float clamped = positive > Format::kMax ? Format::kMax : positive;
  const auto magnitude = std::bit_cast<std::uint32_t>(clamped);
  const std::uint32_t half = (1u << (Format::kShift - 1)) - 1;
  const std::uint32_t normal =
      (magnitude + half + ((magnitude >> Format::kShift) & 1) - Format::kRebias) >> Format::kShift;
  const std::uint32_t denormal = std::bit_cast<std::uint32_t>(clamped + Format::kToDenormal) -
                                 std::bit_cast<std::uint32_t>(Format::kToDenormal);
  std::uint32_t result = clamped < Format::kMinNormal ? denormal : normal;
  result = positive != positive ? 0x7f : result;
  return static_cast<std::uint8_t>(result | ((bits >> 24) & 0x80));
}

template <class Format>
std::array<float, 256> all_values() {
  std::array<float, 256> values;
  for (std::uint32_t i = 0; i < 256; ++i) values[i] = Format::decode(i);
  return values;
}

void load_bytes(float* dst, const std::uint8_t* src, kernels::DType dtype, int n) {
  static const std::array<float, 256> e4m3 = all_values<numeric::E4m3>();
  static const std::array<float, 256> e5m2 = all_values<numeric::E5m2>();
  const auto& values = dtype == kernels::DType::f8e4m3 ? e4m3 : e5m2;
  for (int i = 0; i < n; ++i) dst[i] = values[src[i]];
}

void store_bytes(std::uint8_t* dst, kernels::DType dtype, const float* src, int n) {
  if (dtype == kernels::DType::f8e4m3) {
    for (int i = 0; i < n; ++i) dst[i] = float_to_byte<E4m3Rounding>(src[i]);
  } else {
    for (int i = 0; i < n; ++i) dst[i] = float_to_byte<E5m2Rounding>(src[i]);
  }
}

}  // namespace

void load_row(float* dst, const void* src, kernels::DType dtype, std::int64_t offset, int n) {
  if (dtype == kernels::DType::f32) {
    std::memcpy(dst, static_cast<const float*>(src) + offset, sizeof(float) * n);
    return;
  }
  if (kernels::is_fp8(dtype)) {
    return load_bytes(dst, static_cast<const std::uint8_t*>(src) + offset, dtype, n);
  }
  const auto* half = static_cast<const std::uint16_t*>(src) + offset;
  if (dtype == kernels::DType::bf16) {
    for (int i = 0; i < n; ++i) dst[i] = numeric::bf16_to_float(half[i]);
  } else {
    for (int i = 0; i < n; ++i) dst[i] = half_to_float(half[i]);
  }
}

void store_row(void* dst, kernels::DType dtype, std::int64_t offset, const float* src, int n) {
  if (dtype == kernels::DType::f32) {
    std::memcpy(static_cast<float*>(dst) + offset, src, sizeof(float) * n);
    return;
  }
  if (kernels::is_fp8(dtype)) {
    return store_bytes(static_cast<std::uint8_t*>(dst) + offset, dtype, src, n);
  }
  auto* half = static_cast<std::uint16_t*>(dst) + offset;
  if (dtype == kernels::DType::bf16) {
    for (int i = 0; i < n; ++i) half[i] = numeric::float_to_bf16(src[i]);
  } else {
    for (int i = 0; i < n; ++i) half[i] = float_to_half(src[i]);
  }
}

}  // namespace quire::cpu
