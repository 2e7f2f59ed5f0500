// Floating point: special values, approximate functions, bit casts. GPU side.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline u32 float_bits(float x) { return __float_as_uint(x); }
inline float float_from_bits(u32 x) { return __uint_as_float(x); }
constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000u);
constexpr float kNegInf = -kInfinity;
constexpr float kNan = __builtin_bit_cast(float, 0x7fc00000u);
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// 2^x; 0 for -inf. Denormal results flush to 0.
inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// log2(x); -inf for 0.
inline float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
inline float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// tanh(x), a few 1e-7 off: five instructions, where tanh_f32 is too long.
inline float tanh_by_exp(float x) {
  return 1.f - 2.f * reciprocal_approx(1.f + exp2_approx(x * (2.f * kLog2e)));
}
inline float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Full-precision functions (a few ulp).
inline float exp_f32(float x) { return expf(x); }
inline float log_f32(float x) { return logf(x); }
inline float pow_f32(float x, float y) { return powf(x, y); }
inline float tanh_f32(float x) { return tanhf(x); }
inline float erf_f32(float x) { return erff(x); }
inline float sqrt_f32(float x) { return sqrtf(x); }
inline void sincos_f32(float x, float& sine, float& cosine) { sincosf(x, &sine, &cosine); }
inline float fma_f32(float a, float b, float c) { return fmaf(a, b, c); }
inline float max_f32(float a, float b) { return fmaxf(a, b); }  // NaN loses
inline float min_f32(float a, float b) { return fminf(a, b); }
inline float abs_f32(float x) { return fabsf(x); }
inline bool is_nan(float x) { return (float_bits(x) & 0x7fffffffu) > 0x7f800000u; }

template <class T>
constexpr T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max_of(T a, T b) {
  return a < b ? b : a;
}
template <class T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace quire::tile
