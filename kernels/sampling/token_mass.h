// The integer arithmetic that makes every backend keep the same tokens and draw the same one:
// probabilities as ordered bits, as masses, logits as weights, random numbers. Host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

// Largest vocabulary: 2^23 masses below 2^kMassBits add up to less than 2^63.
constexpr i32 kMaxVocab = 1 << 23;
constexpr int kMassBits = 40;

// The bits of a probability, which order as the values do; -0 becomes 0. Negative numbers, NaN and
// infinity give at least kNotAProbability.
constexpr u32 kNotAProbability = 0x7f800000u;
constexpr u32 probability_bits(u32 float_bits) {
  return float_bits == 0x80000000u ? 0 : float_bits;
}

// Any float's bits as an integer of the same order, above 0; -0 equals 0. NaN comes last, the
// largest of all.
constexpr u32 kNanKey = 0xffffffffu;
constexpr u32 ordered_key(u32 float_bits) {
  if ((float_bits & 0x7fffffffu) > 0x7f800000u) return kNanKey;
  if (float_bits == 0x80000000u) float_bits = 0;
  return (float_bits & 0x80000000u) != 0 ? ~float_bits : float_bits | 0x80000000u;
}
// The float's bits again; those of a NaN for kNanKey.
constexpr u32 bits_of_key(u32 key) { return (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key; }

// The bits of max(p - q, 0) for two probabilities; what is none in p stays none.
constexpr u32 residual_bits(float p, float q) {
  const float difference = p - q;
  return __builtin_bit_cast(u32, difference <= 0.f ? 0.f : difference);
}

constexpr i32 probability_exponent(u32 bits) {
  const i32 exponent = static_cast<i32>(bits >> 23);
  return exponent == 0 ? 1 : exponent;
}

// A probability as an integer, so that sums do not depend on their order: in units of 2^-40 of the
// power of two above the row's largest probability, rounded down.
constexpr u64 token_mass(u32 bits, i32 largest_exponent) {
  const u64 significand = (bits & 0x7fffffu) | (bits >> 23 == 0 ? 0u : 0x800000u);
  const i32 shift = kMassBits - 24 - (largest_exponent - probability_exponent(bits));
  if (shift >= 0) return significand << shift;
  return shift > -24 ? significand >> -shift : 0;
}

// What brings probabilities to units of the power of two below the largest: 2^(127 - exponent).
constexpr float mass_unit(i32 largest_exponent) {
  return __builtin_bit_cast(
      float, largest_exponent < 254 ? static_cast<u32>(254 - largest_exponent) << 23 : 0x00400000u);
}

// The mass that a nucleus must reach: ceil(p * total) in exact arithmetic, p in units of 2^-32, at
// least 1. 0 stands for all tokens.
constexpr u64 nucleus_mass(float p, u64 total) {
  if (p >= 1.f) return 0;
  const u64 fraction = p <= 0.f ? 0 : static_cast<u64>(p * 4294967296.f);
  const u64 high = (total >> 32) * fraction;
  const u64 low = (total & 0xffffffffu) * fraction;
  const u64 needed = high + ((low + 0xffffffffu) >> 32);
  return needed == 0 ? 1 : needed;
}

// The smallest probability that min-p keeps; 0 keeps all, the largest one is always kept.
constexpr float min_p_threshold(float min_p, float largest) {
  if (min_p <= 0.f) return 0.f;
  return min_p >= 1.f ? largest : min_p * largest;
}

// 2^x - 1 of a fraction x in units of 2^-32, in the same units: a polynomial of degree 6, 2^-24.8
// off at most and never decreasing. Integers, so that no compiler rounds it its own way.
constexpr u32 exp2_fraction(u32 x) {
  constexpr u32 kCoefficients[] = {0x000e5867u, 0x005156d7u, 0x027a457fu,
                                   0x0e34555cu, 0x3d7f9e9du, 0xb172174au};
  u32 y = 0;
  for (const u32 coefficient : kCoefficients) {
    y = static_cast<u32>(static_cast<u64>(y) * x >> 32) + coefficient;
  }
  return static_cast<u32>(static_cast<u64>(y) * x >> 32);
}

// How logits become weights: exp((logit - largest) / temperature).
struct WeightScale {
  float largest;  // of the row
  float scale;    // log2(e) / temperature; 0 stands for temperature 0
};
// The bits of a logit's weight: 1 for the largest, 0 where it would be below 2^-126. `logit` is a
// number or -inf. At temperature 0 only the largest logits have a weight.
constexpr u32 weight_bits(float logit, WeightScale w) {
  if (w.scale == 0.f) return logit == w.largest ? 0x3f800000u : 0;
  const float exponent = (logit - w.largest) * w.scale;
  if (!(exponent > -126.f)) return 0;
  const i32 fixed = static_cast<i32>(exponent * 16777216.f);  // exact but for the last truncation
  const u32 fraction = exp2_fraction((static_cast<u32>(fixed) & 0xffffffu) << 8);
  return (static_cast<u32>((fixed >> 24) + 127) << 23) + ((fraction + 256) >> 9);
}

// The factor of a temperature. What is cooler than 2^-100 counts as that, so that it is finite.
constexpr float weight_scale(float temperature) {
  if (temperature == 0.f) return 0.f;
  return 1.4426950408889634f / (temperature < 0x1p-100f ? 0x1p-100f : temperature);
}
constexpr bool is_temperature(float x) { return x >= 0.f && x <= 3.402823466e38f; }

// Philox4x32-10 (Salmon et al. 2011): the first 64 bits of the block.
constexpr u64 philox(u64 key, u64 counter_low, u64 counter_high) {
  u32 x0 = static_cast<u32>(counter_low), x1 = static_cast<u32>(counter_low >> 32);
  u32 x2 = static_cast<u32>(counter_high), x3 = static_cast<u32>(counter_high >> 32);
  u32 key0 = static_cast<u32>(key), key1 = static_cast<u32>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const u64 product0 = static_cast<u64>(0xd2511f53u) * x0;
    const u64 product1 = static_cast<u64>(0xcd9e8d57u) * x2;
    x0 = static_cast<u32>(product1 >> 32) ^ x1 ^ key0;
    x1 = static_cast<u32>(product1);
    x2 = static_cast<u32>(product0 >> 32) ^ x3 ^ key1;
    x3 = static_cast<u32>(product0);
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return static_cast<u64>(x0) << 32 | x1;
}

// floor(random / 2^64 * total): uniform in [0, total).
constexpr u64 scale_random(u64 random, u64 total) {
  const u64 a = random >> 32, b = random & 0xffffffffu;
  const u64 c = total >> 32, d = total & 0xffffffffu;
  const u64 middle = a * d + (b * d >> 32);
  const u64 middle2 = b * c + (middle & 0xffffffffu);
  return a * c + (middle >> 32) + (middle2 >> 32);
}

}  // namespace quire::kernels
