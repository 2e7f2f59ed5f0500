#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Conversions : public PrimitiveTest {};

struct Format {
  DType dtype;
  kernels::DType kernel_dtype;
  int exponent_bits, mantissa_bits;
};
constexpr Format kBf16{DType::bf16, kernels::DType::bf16, 8, 7};
constexpr Format kF16{DType::f16, kernels::DType::f16, 5, 10};

// The value of a bit pattern, by the definition of IEEE 754.
double decode(std::uint32_t bits, const Format& f) {
  const int bias = (1 << (f.exponent_bits - 1)) - 1, top = (1 << f.exponent_bits) - 1;
  const int exponent = static_cast<int>(bits >> f.mantissa_bits) & top;
  const int mantissa = static_cast<int>(bits) & ((1 << f.mantissa_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == top) return mantissa != 0 ? NAN : sign * INFINITY;
  const int implied = exponent == 0 ? 0 : 1 << f.mantissa_bits;
  return sign * std::ldexp(mantissa + implied, std::max(exponent, 1) - bias - f.mantissa_bits);
}

// Patterns as an upload that no conversion touches.
TestTensor of_patterns(const Format& f) {
  TestTensor tensor = TestTensor::poisoned({65536}, f.dtype);
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  copy(tensor.view().data, tensor.view().device, patterns.data(), kCpu, 2 * patterns.size());
  return tensor;
}

void test_widen(const Format& f) {
  const TestTensor a = of_patterns(f);
  const TestTensor out = TestTensor::poisoned({65536}, DType::f32);
  run_primitive({.header = "conversions.cuh",
                 .function = "widen",
                 .config = {.dtype = f.kernel_dtype},
                 .params = {.a = a.view().data, .out = out.view().data, .count = 65536},
                 .threads = 256,
                 .grid_x = 256});
  const std::vector<double> got = out.values();
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const double exact = decode(bits, f);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(got[bits])) << bits;
    } else {
      ASSERT_EQ(got[bits], exact) << bits;
      ASSERT_EQ(std::signbit(got[bits]), std::signbit(exact)) << bits;
    }
  }
}

TEST_F(Conversions, EveryBf16BecomesItsFloat) { test_widen(kBf16); }
TEST_F(Conversions, EveryF16BecomesItsFloat) { test_widen(kF16); }

// The value of an 8-bit pattern with 4 exponent bits, by the OCP definition: no infinity, one NaN.
double decode_e4m3(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 3) & 15, mantissa = static_cast<int>(bits) & 7;
  if (exponent == 15 && mantissa == 7) return NAN;
  const int implied = exponent == 0 ? 0 : 8;
  return (bits >> 7 ? -1 : 1) * std::ldexp(mantissa + implied, std::max(exponent, 1) - 7 - 3);
}

// Every code in each of the 16 places, beside others that are special and others that are not.
std::vector<std::uint8_t> all_bytes_everywhere() {
  std::vector<std::uint8_t> bytes;
  for (int step : {1, 37}) {
    for (int first = 0; first < 16; ++first) {
      for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<std::uint8_t>(first + i * step));
    }
  }
  return bytes;
}

void test_widen_bytes(int exponent_bits, const Format& f,
                      const std::string& function = "widen_bytes", int at_once = 16) {
  const std::vector<std::uint8_t> bytes = all_bytes_everywhere();
  const auto count = static_cast<int>(bytes.size());
  const TestTensor a = TestTensor::bytes(bytes);
  const TestTensor out = TestTensor::poisoned({count}, f.dtype);
  run_primitive({.header = "conversions.cuh",
                 .function = function,
                 .config = {.dtype = f.kernel_dtype, .n = exponent_bits},
                 .params = {.a = a.view().data, .out = out.view().data, .count = count},
                 .threads = 256,
                 .grid_x = count / at_once / 256 + 1});
  const std::vector<double> got = out.values();
  EXPECT_TRUE(out.guards_intact());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint32_t code = bytes[i];
    const double exact = exponent_bits == 4 ? decode_e4m3(code) : decode(code << 8, kF16);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(got[i])) << "code " << code << " at " << i;
    } else {
      ASSERT_EQ(got[i], exact) << "code " << code << " at " << i;
      ASSERT_EQ(std::signbit(got[i]), std::signbit(exact)) << "code " << code << " at " << i;
    }
  }
}

TEST_F(Conversions, EveryF8e4m3BecomesItsF16) { test_widen_bytes(4, kF16); }
TEST_F(Conversions, EveryF8e4m3BecomesItsBf16) { test_widen_bytes(4, kBf16); }
TEST_F(Conversions, EveryF8e5m2BecomesItsF16) { test_widen_bytes(5, kF16); }
TEST_F(Conversions, EveryF8e4m3OfAWord) { test_widen_bytes(4, kF16, "widen_words", 4); }
TEST_F(Conversions, EveryF8e5m2OfAWord) { test_widen_bytes(5, kF16, "widen_words", 4); }
TEST_F(Conversions, EveryF8e5m2BecomesItsBf16) { test_widen_bytes(5, kBf16); }

double decode_byte(std::uint32_t code, DType dtype) {
  return dtype == DType::f8e4m3 ? decode_e4m3(code) : decode(code << 8, kF16);
}

// The nearest code of a number, ties to the even one; beyond the largest it is that.
std::uint32_t nearest_byte(float x, DType dtype) {
  if (std::isnan(x)) return 0x7f;
  const std::uint32_t sign = std::signbit(x) ? 0x80u : 0,
                      largest = dtype == DType::f8e4m3 ? 0x7e : 0x7b;
  std::uint32_t best = 0;
  const double magnitude = std::min(std::abs(static_cast<double>(x)), decode_byte(largest, dtype));
  for (std::uint32_t code = 1; code <= largest; ++code) {
    const double gain = std::abs(decode_byte(best, dtype) - magnitude) -
                        std::abs(decode_byte(code, dtype) - magnitude);
    if (gain > 0 || (gain == 0 && code % 2 == 0)) best = code;
  }
  return sign | best;
}

void test_narrow_bytes(DType dtype, kernels::DType kernel_dtype) {
  std::vector<float> values = {0.f,      -0.f,      448.f,    460.f,       464.f,   465.f,  5.7e4f,
                               6e4f,     61440.f,   -1e9f,    INFINITY,    -1e-30f, 1e-40f, 1.f,
                               0x1p-10f, 0x1.8p-9f, 0x1p-17f, -0x1.8p-16f, NAN};
  for (std::uint32_t code = 0; code < 0x7e; ++code) {
    const double value = decode_byte(code, dtype), next = decode_byte(code + 1, dtype);
    if (!std::isfinite(next)) continue;
    for (const float x : {static_cast<float>(value), static_cast<float>(value / 2 + next / 2)}) {
      for (const float y : {x, std::nextafter(x, 0.f), -std::nextafter(x, 1e9f)}) {
        values.push_back(y);
      }
    }
  }
  if (values.size() % 2 == 1) values.push_back(1);
  const auto count = static_cast<int>(values.size());
  const TestTensor a = TestTensor::from({values.begin(), values.end()}, {count}, DType::f32);
  const TestTensor out = TestTensor::poisoned({2, count}, dtype);
  run_primitive({.header = "conversions.cuh",
                 .function = "narrow_bytes",
                 .config = {.dtype = kernel_dtype},
                 .params = {.a = a.view().data, .out = out.view().data, .count = count},
                 .threads = 256,
                 .grid_x = (count + 255) / 256});
  const std::vector<std::uint8_t> got = out.raw();
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(got[i], nearest_byte(values[i], dtype)) << values[i];
    ASSERT_EQ(got[values.size() + i], nearest_byte(values[i], dtype)) << "narrow2 " << values[i];
  }
}

TEST_F(Conversions, FloatsRoundToTheNearestF8) {
  test_narrow_bytes(DType::f8e4m3, kernels::DType::f8e4m3);
  test_narrow_bytes(DType::f8e5m2, kernels::DType::f8e5m2);
}

template <int n>
void test_unpack_words(DType dtype, kernels::DType kernel_dtype) {
  const std::vector<std::uint8_t> bytes = all_bytes_everywhere();
  const auto count = static_cast<int>(bytes.size());
  const TestTensor a = TestTensor::bytes(bytes);
  const TestTensor out = TestTensor::poisoned({count}, DType::f32);
  run_primitive({.header = "conversions.cuh",
                 .function = "unpack_words",
                 .config = {.dtype = kernel_dtype, .n = n},
                 .params = {.a = a.view().data, .out = out.view().data, .count = count},
                 .threads = 256,
                 .grid_x = count / n / 256 + 1});
  const std::vector<double> got = out.values();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const double exact = decode_byte(bytes[i], dtype);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(got[i])) << i;
    } else {
      ASSERT_EQ(got[i], exact) << i;
    }
  }
}

TEST_F(Conversions, EveryF8OfAWordBecomesItsFloat) {
  for (const auto& [dtype, kernel_dtype] : {std::pair{DType::f8e4m3, kernels::DType::f8e4m3},
                                            {DType::f8e5m2, kernels::DType::f8e5m2}}) {
    test_unpack_words<1>(dtype, kernel_dtype);
    test_unpack_words<2>(dtype, kernel_dtype);
    test_unpack_words<8>(dtype, kernel_dtype);
    test_unpack_words<16>(dtype, kernel_dtype);
  }
}

TEST_F(Conversions, EveryF8BecomesItsFloat) {
  std::vector<std::uint8_t> codes(256);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (const auto& [dtype, kernel_dtype] : {std::pair{DType::f8e4m3, kernels::DType::f8e4m3},
                                            {DType::f8e5m2, kernels::DType::f8e5m2}}) {
    const TestTensor a = TestTensor::bytes(codes);
    const TestTensor out = TestTensor::poisoned({256}, DType::f32);
    run_primitive({.header = "conversions.cuh",
                   .function = "widen",
                   .config = {.dtype = kernel_dtype},
                   .params = {.a = a.view().data, .out = out.view().data, .count = 256},
                   .threads = 256});
    const std::vector<double> got = out.values();
    for (std::uint32_t code = 0; code < 256; ++code) {
      const double exact = decode_byte(code, dtype);
      if (std::isnan(exact)) {
        EXPECT_TRUE(std::isnan(got[code])) << code;
      } else {
        EXPECT_EQ(got[code], exact) << code;
      }
    }
  }
}

// The nearest pattern, ties to the even one: found by search among all.
std::uint32_t nearest(float x, const Format& f) {
  const std::uint32_t sign = std::signbit(x) ? 0x8000u : 0;
  const std::uint32_t infinity = ((1u << f.exponent_bits) - 1) << f.mantissa_bits;
  const double magnitude = std::abs(static_cast<double>(x));
  std::uint32_t low = 0, high = infinity;  // patterns around the magnitude
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    (decode(middle, f) <= magnitude ? low : high) = middle;
  }
  if (std::isinf(x)) return sign | infinity;
  // Infinity stands where the next value would be.
  const double above = high == infinity ? 2 * decode(low, f) - decode(low - 1, f) : decode(high, f);
  const double to_low = magnitude - decode(low, f), to_high = above - magnitude;
  if (to_low != to_high) return sign | (to_low < to_high ? low : high);
  return sign | (low % 2 == 0 ? low : high);
}

// Every representable value, the ties between neighbours, and floats close to both.
std::vector<float> floats_around(const Format& f) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x8000; bits += f.dtype == DType::bf16 ? 7 : 3) {
    const double value = decode(bits, f), next = decode(bits + 1, f);
    if (!std::isfinite(value) || !std::isfinite(next)) continue;
    for (const float x : {static_cast<float>(value), static_cast<float>(value / 2 + next / 2)}) {
      for (const float y : {x, std::nextafter(x, 0.f), std::nextafter(x, INFINITY)}) {
        values.push_back(bits % 2 == 0 ? y : -y);
      }
    }
  }
  for (const float x : {0.f, -0.f, 65504.f, 65519.99f, 65520.f, 65536.f, 1e30f, 3.39e38f, 3.4e38f,
                        INFINITY, -INFINITY, 0x1p-25f, 0x1.000002p-25f, 0x1p-149f, 0x1p-134f}) {
    values.push_back(x);
  }
  if (values.size() % 2 == 1) values.push_back(1);
  return values;
}

void test_narrow(const Format& f) {
  const std::vector<float> values = floats_around(f);
  const auto count = static_cast<int>(values.size());
  const TestTensor a = TestTensor::from({values.begin(), values.end()}, {count}, DType::f32);
  const TestTensor out = TestTensor::poisoned({2, count}, f.dtype);
  run_primitive({.header = "conversions.cuh",
                 .function = "narrow",
                 .config = {.dtype = f.kernel_dtype},
                 .params = {.a = a.view().data, .out = out.view().data, .count = count},
                 .threads = 256,
                 .grid_x = (count + 255) / 256});
  const std::vector<std::uint8_t> raw = out.raw();
  std::vector<std::uint16_t> got(raw.size() / 2);
  std::memcpy(got.data(), raw.data(), raw.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(got[i], nearest(values[i], f)) << values[i];
    ASSERT_EQ(got[values.size() + i], nearest(values[i], f)) << "pack2 of " << values[i];
  }
}

TEST_F(Conversions, FloatsRoundToTheNearestBf16) { test_narrow(kBf16); }
TEST_F(Conversions, FloatsRoundToTheNearestF16) { test_narrow(kF16); }

TEST_F(Conversions, BytesArePermuted) {
  const std::vector<std::uint32_t> words{0x33221100, 0x80ff7f01, 0x33221100, 0x33221100,  // low
                                         0x77665544, 0x12345678, 0x77665544, 0x77665544,  // high
                                         0x6420,     0x7531,     0x3210,     0x7007};
  const std::vector<std::uint32_t> expected{0x66442200, 0x1256807f, 0x33221100, 0x77000077};
  std::vector<std::uint8_t> bytes(words.size() * 4);
  std::memcpy(bytes.data(), words.data(), bytes.size());
  const TestTensor a = TestTensor::bytes(bytes);
  const TestTensor out = TestTensor::poisoned({16}, DType::u8);
  run_primitive({.header = "conversions.cuh",
                 .function = "permute_words",
                 .params = {.a = a.view().data, .out = out.view().data, .count = 4}});
  std::vector<std::uint32_t> got(4);
  std::memcpy(got.data(), out.raw().data(), 16);
  EXPECT_EQ(got, expected);
}

TEST_F(Conversions, NanStaysNan) {
  for (const Format& f : {kBf16, kF16}) {
    const TestTensor a = TestTensor::poisoned({2}, DType::f32);  // NaN
    const TestTensor out = TestTensor::from({0, 0, 0, 0}, {2, 2}, f.dtype);
    run_primitive({.header = "conversions.cuh",
                   .function = "narrow",
                   .config = {.dtype = f.kernel_dtype},
                   .params = {.a = a.view().data, .out = out.view().data, .count = 2}});
    for (const double x : out.values()) EXPECT_TRUE(std::isnan(x));
  }
}

TEST_F(Conversions, VectorsOfEveryWidth) {
  struct Case {
    DType dtype;
    kernels::DType kernel_dtype;
    int n;
  };
  for (const Case& c : {Case{DType::f32, kernels::DType::f32, 1},
                        {DType::f32, kernels::DType::f32, 2},
                        {DType::f32, kernels::DType::f32, 4},
                        {DType::bf16, kernels::DType::bf16, 1},
                        {DType::bf16, kernels::DType::bf16, 2},
                        {DType::bf16, kernels::DType::bf16, 4},
                        {DType::bf16, kernels::DType::bf16, 8},
                        {DType::f16, kernels::DType::f16, 8}}) {
    SCOPED_TRACE(std::string(name(c.dtype)) + " x " + std::to_string(c.n));
    constexpr int kCount = 160;
    const TestTensor a = TestTensor::random({kCount}, c.dtype, 7);
    const TestTensor out = TestTensor::poisoned({kCount}, c.dtype);
    run_primitive({.header = "conversions.cuh",
                   .function = "copy_vectors",
                   .config = {.dtype = c.kernel_dtype, .n = c.n},
                   .params = {.a = a.view().data, .out = out.view().data, .count = kCount},
                   .grid_x = 8});
    EXPECT_EQ(out.raw(), a.raw());
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST_F(Conversions, WordsOfEveryWidth) {
  for (const int n : {1, 2, 4, 8, 16}) {
    SCOPED_TRACE(n);
    std::vector<std::uint8_t> bytes(16 * 5);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 73 + 1);
    const TestTensor a = TestTensor::bytes(bytes);
    const TestTensor out = TestTensor::poisoned({80 + n}, DType::u8);
    run_primitive({.header = "conversions.cuh",
                   .function = "copy_words",
                   .config = {.n = n},
                   .params = {.a = a.view().data, .out = out.view().data, .count = 80},
                   .grid_x = 3});
    bytes.resize(bytes.size() + static_cast<std::size_t>(n), 0);
    EXPECT_EQ(out.raw(), bytes);
    EXPECT_TRUE(out.guards_intact());
  }
}

}  // namespace
}  // namespace quire::test
