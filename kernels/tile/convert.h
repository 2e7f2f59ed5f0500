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

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_from_bits(static_cast<u32>(x.bits) << 16); }
inline float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
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
