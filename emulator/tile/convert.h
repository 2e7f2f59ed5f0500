// 16-bit and 8-bit floating-point storage, and conversions, bit by bit. Twin of
// kernels/tile/convert.h.
#pragma once

#include "tile/math.h"

namespace quire::tile {

struct bf16 {
  u16 bits;
};
struct f16 {
  u16 bits;
};
struct f8e4m3 {
  u8 bits;
};
struct f8e5m2 {
  u8 bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_from_bits(static_cast<u32>(x.bits) << 16); }
inline float to_float(f16 x) {
  const u32 sign = (x.bits & 0x8000u) << 16;
  const u32 exponent = (x.bits >> 10) & 31, mantissa = x.bits & 0x3ffu;
  if (exponent == 31) return float_from_bits(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero or denormal
  return sign != 0 ? -magnitude : magnitude;
}

inline float to_float(f8e5m2 x) { return to_float(f16{static_cast<u16>(x.bits << 8)}); }
inline float to_float(f8e4m3 x) {
  const u32 sign = (x.bits & 0x80u) << 24;
  const u32 exponent = (x.bits >> 3) & 15, mantissa = x.bits & 7u;
  if (exponent == 15 && mantissa == 7) return float_from_bits(sign | 0x7fc00000u);
  if (exponent != 0) return float_from_bits(sign | (exponent + 120) << 23 | mantissa << 20);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;  // zero or denormal
  return sign != 0 ? -magnitude : magnitude;
}

template <class T>
inline T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
  const u32 bits = float_bits(x);
  if (is_nan(x)) return {0x7fff};
  return {static_cast<u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
template <>
inline f16 from_float<f16>(float x) {
  const u32 bits = float_bits(x);
  const u32 sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (is_nan(x)) return {0x7fff};
  if (magnitude >= 0x47800000u) return {static_cast<u16>(sign | 0x7c00u)};  // 2^16 and more
  if (magnitude >= 0x38800000u) {  // normal; a carry out of the mantissa raises the exponent
    const u32 rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return {static_cast<u16>(sign | ((rounded - 0x38000000u) >> 13))};
  }
  // Adding 0.5 leaves the multiple of 2^-24 in the low mantissa bits, rounded to nearest even.
  const u32 units = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  return {static_cast<u16>(sign | units)};
}

// An 8-bit format from its largest magnitude, the smallest denormal and mantissa bits.
inline u8 narrow(float x, float max, float denormal, int mantissa_bits) {
  const u32 sign = (float_bits(x) >> 24) & 0x80u;
  if (is_nan(x)) return 0x7f;
  const float magnitude = min_f32(__builtin_fabsf(x), max);
  // Units of the last place: of the binade, or of the denormals.
  float unit = denormal;
  u32 code = 0;
  while (magnitude >= unit * static_cast<float>(2 << mantissa_bits)) {
    unit *= 2;
    code += 1u << mantissa_bits;
  }
  // Within a binade codes count units; rounding up to the next one carries into the exponent.
  return static_cast<u8>(sign | (code + static_cast<u32>(__builtin_rintf(magnitude / unit))));
}
template <>
inline f8e4m3 from_float<f8e4m3>(float x) {
  return {narrow(x, 448.f, 0x1p-9f, 3)};
}
template <>
inline f8e5m2 from_float<f8e5m2>(float x) {
  return {narrow(x, 57344.f, 0x1p-16f, 2)};
}
template <class F8>
inline u32 narrow2(float low, float high) {
  return from_float<F8>(low).bits | static_cast<u32>(from_float<F8>(high).bits) << 8;
}

template <class T>
inline u32 pack2(float low, float high) {
  return from_float<T>(low).bits | static_cast<u32>(from_float<T>(high).bits) << 16;
}

template <class T>
inline void unpack2(float& low, float& high, u32 x) {
  low = to_float(T{static_cast<u16>(x)});
  high = to_float(T{static_cast<u16>(x >> 16)});
}
template <class T>
inline u32 max2(u32 a, u32 b) {
  float x[4];
  unpack2<T>(x[0], x[1], a);
  unpack2<T>(x[2], x[3], b);
  return pack2<T>(max_f32(x[0], x[2]), max_f32(x[1], x[3]));
}

inline u32 permute_bytes(u32 low, u32 high, u32 selector) {
  const u64 bytes = static_cast<u64>(high) << 32 | low;
  u32 y = 0;
  for (u32 i = 0; i < 4; ++i) {
    y |= static_cast<u32>(bytes >> (selector >> (4 * i) & 7) * 8 & 0xff) << (8 * i);
  }
  return y;
}

template <class F8, class T>
inline void widen16(u32 (&dst)[8], const u32 (&src)[4]) {
  for (int i = 0; i < 16; i += 2) {
    const u32 pair = src[i / 4] >> (i % 4 * 8);
    const F8 low{static_cast<u8>(pair)}, high{static_cast<u8>(pair >> 8)};
    dst[i / 2] = pack2<T>(to_float(low), to_float(high));
  }
}

template <class F8>
inline void widen4(u32 (&dst)[2], u32 src) {
  for (int i = 0; i < 4; i += 2) {
    const F8 low{static_cast<u8>(src >> 8 * i)}, high{static_cast<u8>(src >> (8 * i + 8))};
    dst[i / 2] = pack2<f16>(to_float(low), to_float(high));
  }
}

// The nearest code of e2m1, ties to even; beyond 6, and for NaN, the largest.
inline u32 narrow_e2m1(float x) {
  if (is_nan(x)) return 7;
  const float magnitude = min_f32(__builtin_fabsf(x), 6.f);
  const float unit = magnitude < 2 ? 0.5f : magnitude < 4 ? 1.f : 2.f;
  const u32 first = magnitude < 2 ? 0 : magnitude < 4 ? 2 : 4;
  return (float_bits(x) >> 28 & 8u) | (first + static_cast<u32>(__builtin_rintf(magnitude / unit)));
}
inline u32 narrow8_e2m1(const float (&x)[8], float factor) {
  u32 codes = 0;
  for (int i = 0; i < 8; ++i) codes |= narrow_e2m1(x[i] * factor) << (4 * i);
  return codes;
}

// The C++ type that stores a DType.
template <DType dtype>
struct Storage;
template <>
struct Storage<DType::f32> {
  using type = float;
};
template <>
struct Storage<DType::bf16> {
  using type = bf16;
};
template <>
struct Storage<DType::f16> {
  using type = f16;
};
template <>
struct Storage<DType::f8e4m3> {
  using type = f8e4m3;
};
template <>
struct Storage<DType::f8e5m2> {
  using type = f8e5m2;
};
template <>
struct Storage<DType::u8> {
  using type = u8;
};
template <>
struct Storage<DType::i32> {
  using type = i32;
};
template <>
struct Storage<DType::i64> {
  using type = i64;
};
template <DType dtype>
using storage_t = typename Storage<dtype>::type;

}  // namespace quire::tile
