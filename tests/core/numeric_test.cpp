// Every code of every small format against the formats' definitions: value = (-1)^s 2^(e -
// bias) 1.m, and rounding as the nearest of all representable values, ties to the even code.
#include "core/numeric.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "quire/error.h"

namespace quire {
namespace {

struct Format {
  DType dtype;
  int exponent_bits, mantissa_bits, bias;
  bool ieee;       // the largest exponent means infinity and NaN; else only all ones are NaN
  bool saturates;  // how store() treats numbers past the largest finite one
};

constexpr Format kFormats[] = {{DType::f16, 5, 10, 15, true, false},
                               {DType::bf16, 8, 7, 127, true, false},
                               {DType::f8e4m3, 4, 3, 7, false, true},
                               {DType::f8e5m2, 5, 2, 15, true, true}};

int num_bits(const Format& f) { return 1 + f.exponent_bits + f.mantissa_bits; }

double defined_value(const Format& f, unsigned code) {
  const unsigned mantissa = code % (1u << f.mantissa_bits);
  const unsigned exponent = (code >> f.mantissa_bits) % (1u << f.exponent_bits);
  const double sign = code >> (num_bits(f) - 1) ? -1 : 1;
  const bool top = exponent == (1u << f.exponent_bits) - 1;
  if (top && f.ieee) return mantissa == 0 ? sign * HUGE_VAL : NAN;
  if (top && mantissa == (1u << f.mantissa_bits) - 1) return NAN;
  const double fraction = mantissa / std::pow(2.0, f.mantissa_bits);
  if (exponent == 0) return sign * std::pow(2.0, 1 - f.bias) * fraction;
  return sign * std::pow(2.0, static_cast<int>(exponent) - f.bias) * (1 + fraction);
}

unsigned stored_code(const Format& f, float value) {
  std::uint16_t code = 0;
  numeric::store(&code, f.dtype, 0, value);
  return num_bits(f) == 8 ? code & 0xffu : code;
}

double loaded(const Format& f, unsigned code) {
  const auto word = static_cast<std::uint16_t>(code);
  return numeric::load(&word, f.dtype, 0);
}

// Codes of the finite values that are not negative, in the order of their values.
std::vector<unsigned> finite_codes(const Format& f) {
  std::vector<unsigned> codes;
  for (unsigned code = 0; code < 1u << (num_bits(f) - 1); ++code) {
    if (std::isfinite(defined_value(f, code))) codes.push_back(code);
  }
  return codes;
}

TEST(Numeric, DecodesEveryCode) {
  for (const Format& f : kFormats) {
    for (unsigned code = 0; code < 1u << num_bits(f); ++code) {
      const double expected = defined_value(f, code), got = loaded(f, code);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(got)) << name(f.dtype) << " " << code;
      } else {
        ASSERT_EQ(got, expected) << name(f.dtype) << " " << code;
        ASSERT_EQ(std::signbit(got), std::signbit(expected)) << name(f.dtype) << " " << code;
      }
    }
  }
}

TEST(Numeric, EveryValueKeepsItsCode) {
  for (const Format& f : kFormats) {
    for (const unsigned code : finite_codes(f)) {
      const auto value = static_cast<float>(defined_value(f, code));
      const unsigned sign = 1u << (num_bits(f) - 1);
      ASSERT_EQ(stored_code(f, value), code) << name(f.dtype);
      ASSERT_EQ(stored_code(f, -value), code | sign) << name(f.dtype);
    }
  }
}

TEST(Numeric, RoundsToTheNearestAndTiesToEven) {
  for (const Format& f : kFormats) {
    const std::vector<unsigned> codes = finite_codes(f);
    for (std::size_t i = 0; i + 1 < codes.size(); ++i) {
      const double low = defined_value(f, codes[i]), high = defined_value(f, codes[i + 1]);
      const auto middle = static_cast<float>((low + high) / 2);
      if (middle != (low + high) / 2) continue;  // between bf16's denormals float has no middle
      const unsigned even = codes[i] % 2 == 0 ? codes[i] : codes[i + 1];
      ASSERT_EQ(stored_code(f, middle), even) << name(f.dtype) << " " << middle;
      ASSERT_EQ(stored_code(f, std::nextafter(middle, 0.f)), codes[i]) << name(f.dtype);
      ASSERT_EQ(stored_code(f, std::nextafter(middle, HUGE_VALF)), codes[i + 1]) << name(f.dtype);
    }
  }
}

TEST(Numeric, NumbersTooLarge) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (const Format& f : kFormats) {
    const double limit = defined_value(f, finite_codes(f).back());
    for (const float value : {kLargest, HUGE_VALF}) {
      const double expected = f.saturates ? limit : HUGE_VAL;
      EXPECT_EQ(loaded(f, stored_code(f, value)), expected) << name(f.dtype);
      EXPECT_EQ(loaded(f, stored_code(f, -value)), -expected) << name(f.dtype);
    }
  }
  // Half of f16's last step above its largest number is where infinity begins.
  EXPECT_EQ(loaded(kFormats[0], stored_code(kFormats[0], 65519.f)), 65504.0);
  EXPECT_EQ(loaded(kFormats[0], stored_code(kFormats[0], 65520.f)), HUGE_VAL);
}

TEST(Numeric, NanStaysNan) {
  for (const Format& f : kFormats) {
    EXPECT_TRUE(std::isnan(loaded(f, stored_code(f, NAN)))) << name(f.dtype);
    EXPECT_TRUE(std::isnan(loaded(f, stored_code(f, -NAN)))) << name(f.dtype);
  }
}

TEST(Numeric, FloatPassesUnchangedAndIntegersAreRefused) {
  float data[2] = {};
  numeric::store(data, DType::f32, 1, 0.1f);
  EXPECT_EQ(numeric::load(data, DType::f32, 1), 0.1f);
  for (const DType dtype : {DType::i32, DType::i64, DType::u8, DType::boolean}) {
    EXPECT_THROW(numeric::load(data, dtype, 0), Error);
    EXPECT_THROW(numeric::store(data, dtype, 0, 1.f), Error);
  }
  EXPECT_EQ(data[0], 0.f);
}

}  // namespace
}  // namespace quire
