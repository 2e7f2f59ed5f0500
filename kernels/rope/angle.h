// Sine and cosine of any f32 angle, as large as positions in the millions make it.
//
// A library sincos either loses the large angles or keeps a slow path with a stack frame. Here the
// angle, an integer of 24 bits times a power of two, is multiplied by 1 / (2 pi) in 64-bit fixed
// point that counts turns: whole turns fall out by wrapping around. The error in turns stays below
// 2^-39 for every finite angle.
#pragma once

#include "tile/math.h"

namespace quire::kernels {

// floor(2^64 * frac(2^exponent / (2 pi))), for exponent <= 127.
inline u64 turns_of_power_of_two(int exponent) {
  // The first 192 bits of 1 / (2 pi).
  constexpr u64 kBits0 = 0x28be60db9391054aull;
  constexpr u64 kBits1 = 0x7f09d5f47d4d3770ull;
  constexpr u64 kBits2 = 0x36d8a5664f10e410ull;
  if (exponent < 0) return exponent > -64 ? kBits0 >> -exponent : 0;
  const u64 high = exponent < 64 ? kBits0 : kBits1;
  const u64 low = exponent < 64 ? kBits1 : kBits2;
  const int shift = exponent & 63;
  return shift == 0 ? high : (high << shift) | (low >> (64 - shift));
}

struct SineCosine {
  float sine, cosine;
};

// Error below 1.2e-7 for every finite angle.
inline SineCosine sine_cosine(float angle) {
  const u32 bits = tile::float_bits(angle);
  const int biased_exponent = static_cast<int>((bits >> 23) & 0xff);
  const u64 mantissa = (bits & 0x7fffff) | 0x800000;  // denormals turn by nothing anyway
  const u64 turns = mantissa * turns_of_power_of_two(biased_exponent - 150);

  // The nearest quarter turn, and the angle left: [-pi / 4, pi / 4].
  const u32 quarter = static_cast<u32>((turns + (1ull << 61)) >> 62);
  const i64 rest = static_cast<i64>(turns - (static_cast<u64>(quarter) << 62));
  const float x = static_cast<float>(rest) * 3.4061215800e-19f;  // 2 pi / 2^64

  // Taylor series, whose first term left out is below 2e-9 here.
  const float xx = x * x;
  float s = tile::fma_f32(xx, 1.f / 362880, -1.f / 5040);
  s = tile::fma_f32(xx, s, 1.f / 120);
  s = tile::fma_f32(xx, s, -1.f / 6);
  s = tile::fma_f32(xx * x, s, x);
  float c = tile::fma_f32(xx, -1.f / 3628800, 1.f / 40320);
  c = tile::fma_f32(xx, c, -1.f / 720);
  c = tile::fma_f32(xx, c, 1.f / 24);
  c = tile::fma_f32(xx, c, -0.5f);
  c = tile::fma_f32(xx, c, 1.f);

  float sine = quarter & 1 ? c : s;
  float cosine = quarter & 1 ? s : c;
  if (quarter & 2) sine = -sine;
  if ((quarter + 1) & 2) cosine = -cosine;
  return {bits >> 31 ? -sine : sine, cosine};
}

}  // namespace quire::kernels
