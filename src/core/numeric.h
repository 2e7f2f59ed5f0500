// Conversions between float and the storage formats, on the host. Round to nearest even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "quire/tensor.h"

namespace quire::numeric {

inline float bf16_to_float(std::uint16_t x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16);
}

inline std::uint16_t float_to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A small binary format: value = (-1)^s * 2^(e - bias) * 1.m, denormals included.
template <int exponent_bits, int mantissa_bits, bool has_infinity>
struct MiniFloat {
  static constexpr int kBias = (1 << (exponent_bits - 1)) - 1;
  static constexpr std::uint32_t kMantissaMask = (1u << mantissa_bits) - 1;
  static constexpr std::uint32_t kExponentMask = (1u << exponent_bits) - 1;
  static constexpr std::uint32_t kNan =
      has_infinity ? (kExponentMask << mantissa_bits) | (1u << (mantissa_bits - 1))
                   : (kExponentMask << mantissa_bits) | kMantissaMask;
  // Largest finite magnitude.
  static constexpr std::uint32_t kMax =
      has_infinity ? ((kExponentMask - 1) << mantissa_bits) | kMantissaMask : kNan - 1;

  static float decode(std::uint32_t x) {
    const bool negative = (x >> (exponent_bits + mantissa_bits)) & 1;
    const std::uint32_t exponent = (x >> mantissa_bits) & kExponentMask;
    const std::uint32_t mantissa = x & kMantissaMask;
    float value;
    if (has_infinity && exponent == kExponentMask) {
      value = mantissa ? NAN : INFINITY;
    } else if (!has_infinity && (x & (kNan)) == kNan) {
      value = NAN;
    } else if (exponent == 0) {
      value = std::ldexp(static_cast<float>(mantissa), 1 - kBias - mantissa_bits);
    } else {
      value = std::ldexp(static_cast<float>(mantissa | (1u << mantissa_bits)),
                         static_cast<int>(exponent) - kBias - mantissa_bits);
    }
    return negative ? -value : value;
  }

  // `saturate`: magnitudes past the largest finite one become it (fp8's convention), else infinity.
  static std::uint32_t encode(float x, bool saturate) {
    const std::uint32_t sign = std::signbit(x) ? 1u << (exponent_bits + mantissa_bits) : 0;
    if (std::isnan(x)) return sign | kNan;
    const double magnitude = std::fabs(static_cast<double>(x));
    if (magnitude == 0) return sign;
    int exponent = 0;
    std::frexp(magnitude, &exponent);  // magnitude in [2^(exponent - 1), 2^exponent)
    exponent = std::max(exponent - 1, 1 - kBias);
    // nearbyint rounds to even in the default rounding mode.
    const double scaled = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
    const double limit = static_cast<double>(decode(kMax));
    if (std::ldexp(scaled, exponent - mantissa_bits) > limit || std::isinf(x)) {
      if (saturate || !has_infinity) return sign | kMax;
      return sign | (kExponentMask << mantissa_bits);
    }
    const auto units = static_cast<std::uint32_t>(scaled);
    if (units < (1u << mantissa_bits)) return sign | units;  // denormal or zero
    if (units == (2u << mantissa_bits)) {                    // rounded up to the next binade
      return sign | (static_cast<std::uint32_t>(exponent + 1 + kBias) << mantissa_bits);
    }
    return sign | (static_cast<std::uint32_t>(exponent + kBias) << mantissa_bits) |
           (units & kMantissaMask);
  }
};

using Half = MiniFloat<5, 10, true>;
using E4m3 = MiniFloat<4, 3, false>;
using E5m2 = MiniFloat<5, 2, true>;

// One element of a floating-point dtype at `data[index]`.
float load(const void* data, DType dtype, std::int64_t index);
void store(void* data, DType dtype, std::int64_t index, float value);

}  // namespace quire::numeric
