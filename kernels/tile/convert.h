// 16-bit and 8-bit floating-point storage, and conversions, by PTX. Round to nearest even. GPU
// side.
#pragma once

#include "tile/math.h"

namespace quire::tile {

// Storage of one 16-bit element; converts, does not compute.
struct bf16 {
  u16 bits;
};
struct f16 {
  u16 bits;
};
// 8-bit storage: 4 exponent bits, 3 mantissa bits, no infinity.
struct f8e4m3 {
  u8 bits;
};
// 5 exponent bits, 2 mantissa bits, infinities: the top byte of an f16.
struct f8e5m2 {
  u8 bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_from_bits(static_cast<u32>(x.bits) << 16); }
inline float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

inline float to_float(f8e5m2 x) { return to_float(f16{static_cast<u16>(x.bits << 8)}); }
inline float to_float(f8e4m3 x) {
  const u32 sign = static_cast<u32>(x.bits & 0x80) << 24, magnitude = x.bits & 0x7fu;
  const float value = float_from_bits(magnitude << 20) * 0x1p120f;  // exact, denormals included
  return float_from_bits(sign | (magnitude == 0x7f ? 0x7fc00000u : float_bits(value)));
}

template <class T>
inline T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
template <>
inline f16 from_float<f16>(float x) {
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}

// What rounding to an 8-bit format by hand needs to know.
template <class F8>
struct Narrowing;
template <>
struct Narrowing<f8e4m3> {
  static constexpr int shift = 20;  // f32 mantissa bits that are dropped
  static constexpr u32 rebias = 120u << 23, nan = 0x7f;
  // Largest value, smallest normal one, and what has the smallest denormal as its last bit.
  static constexpr float max = 448.f, min_normal = 0x1p-6f, to_denormal = 0x1p14f;
};
template <>
struct Narrowing<f8e5m2> {
  static constexpr int shift = 21;
  static constexpr u32 rebias = 112u << 23, nan = 0x7f;
  static constexpr float max = 57344.f, min_normal = 0x1p-14f, to_denormal = 0x1p7f;
};

// Without cvt, which knows 8-bit formats from sm_89 on only.
template <class F8>
inline u32 narrow_by_hand(float x) {
  using N = Narrowing<F8>;
  const u32 sign = (float_bits(x) >> 24) & 0x80;
  if (is_nan(x)) return N::nan;
  const float clamped = min_f32(float_from_bits(float_bits(x) & 0x7fffffffu), N::max);
  const u32 bits = float_bits(clamped);
  if (clamped < N::min_normal) {  // the sum rounds to a multiple of the smallest denormal
    return sign | (float_bits(clamped + N::to_denormal) - float_bits(N::to_denormal));
  }
  constexpr u32 kHalf = (1u << (N::shift - 1)) - 1;
  return sign | ((bits + kHalf + ((bits >> N::shift) & 1) - N::rebias) >> N::shift);
}

// Two 8-bit elements in 16 bits, `low` in the low byte. Magnitudes beyond the largest one become
// it.
template <class F8>
inline u32 narrow2(float low, float high);
#if __CUDA_ARCH__ >= 890
template <>
inline u32 narrow2<f8e4m3>(float low, float high) {
  u16 y;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(y) : "f"(high), "f"(low));
  return y;
}
template <>
inline u32 narrow2<f8e5m2>(float low, float high) {
  u16 y;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(y) : "f"(high), "f"(low));
  return y;
}
#else
template <class F8>
inline u32 narrow2(float low, float high) {
  return narrow_by_hand<F8>(low) | narrow_by_hand<F8>(high) << 8;
}
#endif
template <>
inline f8e4m3 from_float<f8e4m3>(float x) {
  return {static_cast<u8>(narrow2<f8e4m3>(x, 0.f))};
}
template <>
inline f8e5m2 from_float<f8e5m2>(float x) {
  return {static_cast<u8>(narrow2<f8e5m2>(x, 0.f))};
}

// Two elements in 32 bits, `low` in the low half.
template <class T>
inline u32 pack2(float low, float high);
template <>
inline u32 pack2<bf16>(float low, float high) {
  u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
template <>
inline u32 pack2<f16>(float low, float high) {
  u32 y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

// The bytes of `low` are numbers 0 to 3, those of `high` 4 to 7: byte i of the result is the one
// that digit i (4 bits, lowest first) of `selector` names.
inline u32 permute_bytes(u32 low, u32 high, u32 selector) {
  return __byte_perm(low, high, selector);
}

// How an 8-bit format becomes a 16-bit one. Exponent and mantissa, moved right by `shift` from the
// top of the 16 bits, are the value times a power of two, denormal where the 8 bits are; `factor`
// takes that out again. Codes from first_special on, without the sign, are infinities and NaN.
template <class F8, class T>
struct Widening;
template <>
struct Widening<f8e4m3, f16> {
  static constexpr int shift = 1, exponent_bits = 5;
  static constexpr u32 factor = 0x5c005c00, first_special = 0x7f;  // 2^8
};
template <>
struct Widening<f8e4m3, bf16> {
  static constexpr int shift = 4, exponent_bits = 8;
  static constexpr u32 factor = 0x7b807b80, first_special = 0x7f;  // 2^120
};
template <>
struct Widening<f8e5m2, bf16> {
  static constexpr int shift = 3, exponent_bits = 8;
  static constexpr u32 factor = 0x77807780, first_special = 0x7c;  // 2^112
};

// Products of two pairs.
template <class T>
inline u32 multiply2(u32 a, u32 b);
template <>
inline u32 multiply2<f16>(u32 a, u32 b) {
  u32 y;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
template <>
inline u32 multiply2<bf16>(u32 a, u32 b) {  // plus -0: sm_80 has no product alone
  u32 y;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(0x80008000));
  return y;
}

// Bytes 0, 1 or 2, 3 of a word, each to the top of 16 bits.
inline u32 low_bytes(u32 x) { return __byte_perm(x, 0, 0x1404); }
inline u32 high_bytes(u32 x) { return __byte_perm(x, 0, 0x3424); }

#if __CUDA_ARCH__ >= 890

// Two elements to f16, then to T.
template <class F8>
inline u32 widen2(u16 x);
template <>
inline u32 widen2<f8e4m3>(u16 x) {
  u32 y;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(y) : "h"(x));
  return y;
}
template <>
inline u32 widen2<f8e5m2>(u16 x) {
  u32 y;
  asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(y) : "h"(x));
  return y;
}
template <class T>
inline u32 from_f16x2(u32 x);
template <>
inline u32 from_f16x2<f16>(u32 x) {
  return x;
}
template <>
inline u32 from_f16x2<bf16>(u32 x) {
  u32 y;
  asm("{\n.reg .b16 low, high;\n.reg .f32 a, b;\n"
      "mov.b32 {low, high}, %1;\n"
      "cvt.f32.f16 a, low;\ncvt.f32.f16 b, high;\n"
      "cvt.rn.bf16x2.f32 %0, b, a;\n}\n"
      : "=r"(y)
      : "r"(x));
  return y;
}

// Sixteen 8-bit elements to sixteen T, bf16 or f16, in their order; exact for every code, NaN stays
// NaN.
template <class F8, class T>
inline void widen16(u32 (&dst)[8], const u32 (&src)[4]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    dst[i] = from_f16x2<T>(widen2<F8>(static_cast<u16>(src[i / 2] >> i % 2 * 16)));
  }
}

#else

// The same where cvt does not know 8-bit formats.
template <class F8, class T>
inline void widen16(u32 (&dst)[8], const u32 (&src)[4]) {
  using W = Widening<F8, T>;
  constexpr u32 kToSign = 0x01010101 * (0x80 - W::first_special);
  u32 special = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    special |= (src[i] & 0x7f7f7f7f) + kToSign;  // sets the sign of what is special
    const u32 halves[2] = {low_bytes(src[i]), high_bytes(src[i])};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const u32 magnitude = (halves[j] >> W::shift) & (0x7f007f00 >> W::shift);
      dst[2 * i + j] = multiply2<T>((halves[j] & 0x80008000) | magnitude, W::factor);
    }
  }
  if ((special & 0x80808080) == 0) return;  // nearly always
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const u32 signs = ((src[i] & 0x7f7f7f7f) + kToSign) & 0x80808080;
    const u32 low = low_bytes(signs), high = high_bytes(signs);
    dst[2 * i] |= low - (low >> W::exponent_bits);  // sets all bits of the exponent
    dst[2 * i + 1] |= high - (high >> W::exponent_bits);
  }
}
template <>
inline void widen16<f8e5m2, f16>(u32 (&dst)[8], const u32 (&src)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    dst[2 * i] = low_bytes(src[i]);
    dst[2 * i + 1] = high_bytes(src[i]);
  }
}

#endif

// Four 8-bit elements to f16, in their order; exact for every code, NaN stays NaN.
template <class F8>
inline void widen4(u32 (&dst)[2], u32 src);
template <>
inline void widen4<f8e4m3>(u32 (&dst)[2], u32 src) {
#if __CUDA_ARCH__ >= 890
  dst[0] = widen2<f8e4m3>(static_cast<u16>(src));
  dst[1] = widen2<f8e4m3>(static_cast<u16>(src >> 16));
#else
  using W = Widening<f8e4m3, f16>;
  const u32 halves[2] = {low_bytes(src), high_bytes(src)};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 magnitude = (halves[i] >> W::shift) & (0x7f007f00 >> W::shift);
    // Of the magnitudes only NaN, 0x7f00, reaches the sign when one is added to its code.
    const u32 nan = ((halves[i] & 0x7f007f00) + 0x01000100) & 0x80008000;
    dst[i] = multiply2<f16>((halves[i] & 0x80008000) | magnitude, W::factor) |
             (nan - (nan >> W::exponent_bits));
  }
#endif
}
template <>
inline void widen4<f8e5m2>(u32 (&dst)[2], u32 src) {
  dst[0] = low_bytes(src);
  dst[1] = high_bytes(src);
}

// The other way.
template <class T>
inline void unpack2(float& low, float& high, u32 x);
template <>
inline void unpack2<bf16>(float& low, float& high, u32 x) {
  low = float_from_bits(x << 16);
  high = float_from_bits(x & 0xffff0000u);
}
template <>
inline void unpack2<f16>(float& low, float& high, u32 x) {
  low = to_float(f16{static_cast<u16>(x)});
  high = to_float(f16{static_cast<u16>(x >> 16)});
}

// The larger of two pairs; NaN loses.
template <class T>
inline u32 max2(u32 a, u32 b);
template <>
inline u32 max2<bf16>(u32 a, u32 b) {
  u32 y;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
template <>
inline u32 max2<f16>(u32 a, u32 b) {
  u32 y;
  asm("max.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}

// Sums and minima of two pairs of f16; of a number and NaN the number is the smaller.
inline u32 add2_f16(u32 a, u32 b) {
  u32 y;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
inline u32 min2_f16(u32 a, u32 b) {
  u32 y;
  asm("min.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
inline u32 abs2_f16(u32 x) {
  u32 y;
  asm("abs.f16x2 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// Eight elements, each times `factor`, to e2m1 (sign, 2 exponent bits, 1 mantissa bit; 0.5 is the
// denormal), the first in the lowest four bits. To the nearest, ties to even; beyond 6, and for
// NaN, the largest. Of factors below 2^-100 bits are lost.
//
// Codes count halves up to 2, ones from there to 4, then twos: of x rounded to halves, ones and
// twos, each with what its count starts at, the least is the code. The bits of a small f16 are a
// count of 2^-24, so that one conversion rounds two elements.
inline u32 narrow8_e2m1(const float (&x)[8], float factor) {
  constexpr u32 kLargest = 0x00070007, kFromOnes = 0x00020002, kFromTwos = 0x00040004;
  const float to_halves = factor * 0x1p-23f, to_ones = factor * 0x1p-24f;
  const float to_twos = factor * 0x1p-25f;
  u32 codes = 0, signs = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {  // elements i and i + 4 are four bits of either half
    const u32 halves = pack2<f16>(x[i] * to_halves, x[i + 4] * to_halves);
    const u32 ones = pack2<f16>(x[i] * to_ones, x[i + 4] * to_ones);
    const u32 twos = pack2<f16>(x[i] * to_twos, x[i + 4] * to_twos);
    const u32 low = min2_f16(abs2_f16(halves), add2_f16(abs2_f16(ones), kFromOnes));
    const u32 high = min2_f16(add2_f16(abs2_f16(twos), kFromTwos), kLargest);
    codes = codes << 4 | min2_f16(low, high);
    signs |= (halves & 0x80008000) >> (12 - 4 * i);
  }
  return codes | signs;
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
