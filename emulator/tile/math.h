// Floating point: special values, approximate functions, bit casts. Twin of kernels/tile/math.h;
// the approximate functions are exact here, with the special values of the hardware's.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline u32 float_bits(float x) { return __builtin_bit_cast(u32, x); }
inline float float_from_bits(u32 x) { return __builtin_bit_cast(float, x); }
constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000u);
constexpr float kNegInf = -kInfinity;
constexpr float kNan = __builtin_bit_cast(float, 0x7fc00000u);
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// Denormals become zeros of the same sign, as in every instruction with .ftz.
inline float flush_denormal(float x) {
  return (float_bits(x) & 0x7f800000u) == 0 ? float_from_bits(float_bits(x) & 0x80000000u) : x;
}

inline float exp2_approx(float x) { return flush_denormal(__builtin_exp2f(flush_denormal(x))); }
inline float log2_approx(float x) { return __builtin_log2f(flush_denormal(x)); }
inline float reciprocal_approx(float x) { return 1.f / x; }
inline float tanh_by_exp(float x) { return __builtin_tanhf(x); }
inline float rsqrt_approx(float x) { return 1.0f / __builtin_sqrtf(flush_denormal(x)); }

inline float exp_f32(float x) { return __builtin_expf(x); }
inline float log_f32(float x) { return __builtin_logf(x); }
inline float pow_f32(float x, float y) { return __builtin_powf(x, y); }
inline float tanh_f32(float x) { return __builtin_tanhf(x); }
inline float erf_f32(float x) { return __builtin_erff(x); }
inline float sqrt_f32(float x) { return __builtin_sqrtf(x); }
inline void sincos_f32(float x, float& sine, float& cosine) {
  sine = __builtin_sinf(x);
  cosine = __builtin_cosf(x);
}
inline float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float abs_f32(float x) { return __builtin_fabsf(x); }
inline bool is_nan(float x) { return (float_bits(x) & 0x7fffffffu) > 0x7f800000u; }
inline float max_f32(float a, float b) { return is_nan(b) || a > b ? a : b; }  // NaN loses
inline float min_f32(float a, float b) { return is_nan(b) || a < b ? a : b; }

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
