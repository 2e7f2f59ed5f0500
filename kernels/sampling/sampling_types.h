// What softmax, argmax and the samplers share between host and device: configurations, parameters
// and the integer arithmetic that makes every backend choose the same token.
#pragma once

#include "dtype.h"

namespace quire::kernels {

// Largest vocabulary: 2^23 masses below 2^kMassBits add up to less than 2^63.
constexpr i32 kMaxVocab = 1 << 23;
constexpr int kMassBits = 40;

// Shared memory of the sample kernel: two histograms of 2048 bins and what the warps exchange.
constexpr i32 kSampleMemoryBytes = 2 * 2048 * 4 + 32 * (8 + 8 + 4) + 24;

enum class TokenFilter : u8 { none, top_k, top_p, min_p, top_k_then_top_p, top_k_and_top_p };

constexpr const char* literal(TokenFilter filter) {
  switch (filter) {
    case TokenFilter::none:
      return "TokenFilter::none";
    case TokenFilter::top_k:
      return "TokenFilter::top_k";
    case TokenFilter::top_p:
      return "TokenFilter::top_p";
    case TokenFilter::min_p:
      return "TokenFilter::min_p";
    case TokenFilter::top_k_then_top_p:
      return "TokenFilter::top_k_then_top_p";
    case TokenFilter::top_k_and_top_p:
      return "TokenFilter::top_k_and_top_p";
  }
  return "";
}

constexpr bool uses_top_k(TokenFilter filter) {
  return filter == TokenFilter::top_k || filter == TokenFilter::top_k_then_top_p ||
         filter == TokenFilter::top_k_and_top_p;
}
constexpr bool uses_top_p(TokenFilter filter) {
  return filter == TokenFilter::top_p || filter == TokenFilter::top_k_then_top_p ||
         filter == TokenFilter::top_k_and_top_p;
}

struct SampleConfig {
  TokenFilter filter = TokenFilter::none;
  i32 vec_elems = 1;  // elements a load; divides vocab and the row stride
  i32 threads = 128;  // a block; 64 to 1024, power of two

  bool operator==(const SampleConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const SampleConfig& c, Visitor&& visit) {
  visit("filter", c.filter);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

// Softmax and argmax read logits in the same way.
struct LogitsConfig {
  DType dtype = DType::f32;
  i32 vec_elems = 1;
  i32 threads = 128;

  bool operator==(const LogitsConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const LogitsConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

// A value for all rows, or one a row.
template <class T>
struct RowValue {
  const T* values;  // [rows]; null: `value` for all
  i64 stride;       // elements
  T value;
  constexpr T at(i64 row) const { return values == nullptr ? value : values[row * stride]; }
};

// Strides in elements.
struct SampleParams {
  const float* probs;  // [probs_rows, vocab]
  i64 probs_stride;
  i32 probs_rows;
  i32 vocab;
  i32 rows;            // of the output
  i32 row_streams;     // 1: the output row is part of the random counter (one seed for all rows)
  const i32* indices;  // [rows] rows of probs; null: the output row itself
  i64 indices_stride;
  i32* ids;  // [rows]
  i64 ids_stride;
  u8* valid;  // [rows] or null
  i64 valid_stride;
  RowValue<i32> top_k;
  RowValue<float> top_p;
  RowValue<float> min_p;
  RowValue<i64> seed;
  RowValue<i64> offset;
};

struct SoftmaxParams {
  const void* logits;  // [rows, vocab]
  i64 logits_stride;
  float* probs;  // [rows, vocab]
  i64 probs_stride;
  i32 rows;
  i32 vocab;
  RowValue<float> temperature;
};

struct ArgmaxParams {
  const void* logits;  // [rows, vocab]
  i64 logits_stride;
  i32* ids;  // [rows]
  i64 ids_stride;
  i32 rows;
  i32 vocab;
};

// The bits of a probability, which order as the values do; -0 becomes 0. Negative numbers, NaN and
// infinity give at least kNotAProbability.
constexpr u32 kNotAProbability = 0x7f800000u;
constexpr u32 probability_bits(u32 float_bits) {
  return float_bits == 0x80000000u ? 0 : float_bits;
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

// The random number of an output row.
constexpr u64 row_random(const SampleParams& p, i64 row) {
  return philox(static_cast<u64>(p.seed.at(row)), static_cast<u64>(p.offset.at(row)),
                p.row_streams != 0 ? static_cast<u64>(row) : 0);
}

}  // namespace quire::kernels
