#include "quire/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/quantized.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;
using Values = std::vector<double>;

struct BlockCase {
  std::int64_t rows, cols;
  ScaleBlock block;
  std::int64_t before = 0, behind = 0;
};

std::vector<BlockCase> block_cases() {
  std::vector<BlockCase> cases = {{3, 256, ScaleBlock::per_token()},
                                  {3, 256, ScaleBlock::per_group()},
                                  {2, 200, ScaleBlock::per_group(), 8, 0},
                                  {5, 17, ScaleBlock::per_token(), 1, 0},
                                  {5, 30, {2, 8}},
                                  {5, 30, {3, 7}, 1, 1},
                                  {130, 136, ScaleBlock::per_block(), 8, 8},
                                  {4, 24, {1000000, 0}}};
  if (!test::is_emulated()) {
    const std::vector<BlockCase> large = {{300, 4096, ScaleBlock::per_group()},
                                          {700, 1000, ScaleBlock::per_block()},
                                          {3, 40000, ScaleBlock::per_token()},
                                          {200, 20001, ScaleBlock::per_token()}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

std::int64_t block_cols(const BlockCase& c) { return c.block.cols == 0 ? c.cols : c.block.cols; }

class QuantizeTest : public testing::TestWithParam<DType> {};

TEST_P(QuantizeTest, ComputedScalesAndBack) {
  for (const BlockCase& c : block_cases()) {
    for (const bool power_of_two : {false, true}) {
      const DType out_dtype = power_of_two ? DType::f8e5m2 : DType::f8e4m3;
      SCOPED_TRACE(std::to_string(c.rows) + " x " + std::to_string(c.cols) + " in blocks of " +
                   std::to_string(c.block.rows) + " x " + std::to_string(c.block.cols));
      const PaddedTensor input(test::random_values(c.rows * c.cols, 1, 5), {c.rows, c.cols},
                               GetParam(), c.before, c.behind);
      const PaddedTensor out({}, {c.rows, c.cols}, out_dtype, c.behind, c.before);
      const std::int64_t down = (c.rows + c.block.rows - 1) / c.block.rows;
      const std::int64_t across = (c.cols + block_cols(c) - 1) / block_cols(c);
      // Column-major.
      const TestTensor stored = TestTensor::poisoned({across, down}, DType::f32);
      TensorView scales = stored.view();
      scales.shape = {down, across};
      scales.strides = {1, down};
      quantize_fp8(input, out, Fp8Scale::computed(scales, power_of_two), c.block);

      const Values values = input.values(), got = stored.values();
      Values expected(got.size(), 1e-10);
      const auto block_of = [&](std::size_t i) {
        const auto at = static_cast<std::int64_t>(i);
        return static_cast<std::size_t>(at % c.cols / block_cols(c) * down +
                                        at / c.cols / c.block.rows);
      };
      for (std::size_t i = 0; i < values.size(); ++i) {
        expected[block_of(i)] = std::max(expected[block_of(i)], std::abs(values[i]));
      }
      for (std::size_t b = 0; b < got.size(); ++b) {
        double scale = expected[b] / test::fp8_largest(out_dtype);
        if (power_of_two) scale = std::exp2(std::ceil(std::log2(scale)));
        ASSERT_NEAR(got[b], scale, 1e-6 * scale) << "block " << b;
      }
      const auto scale_of = [&](std::size_t i) { return got[block_of(i)]; };
      test::expect_quantized(out.values(), values, out_dtype, 1e-6, scale_of);
      EXPECT_TRUE(out.padding_intact() && input.unchanged() && stored.guards_intact());

      const PaddedTensor back({}, {c.rows, c.cols}, GetParam(), c.before, c.behind);
      dequantize_fp8(out, back, Fp8Scale(scales), c.block);
      const Values elements = out.values(), restored = back.values();
      const double storing = GetParam() == DType::f32 ? 0x1p-23 : 0x1p-8;
      for (std::size_t i = 0; i < restored.size(); ++i) {
        const double exact = elements[i] * got[block_of(i)];
        ASSERT_NEAR(restored[i], exact, std::abs(exact) * storing + 1e-7) << i;
      }
      EXPECT_TRUE(back.padding_intact());
    }
  }
}

TEST_P(QuantizeTest, GivenScales) {
  for (const auto& [rows, cols] : {std::pair{3, 24}, {2, 2100}, {5, 7}}) {
    const TestTensor input = TestTensor::random({rows, cols}, GetParam(), 1, 100);
    const TestTensor out = TestTensor::poisoned({rows, cols}, DType::f8e4m3);
    const TestTensor back = TestTensor::poisoned({rows, cols}, GetParam());
    const TestTensor scale = TestTensor::from({0.3}, {1}, DType::f32);
    const double number = static_cast<float>(0.3);
    for (const Fp8Scale& given : {Fp8Scale(0.3f), Fp8Scale(scale.view())}) {
      quantize_fp8(input, out, given);
      test::expect_quantized(out.values(), input.values(), DType::f8e4m3, 1e-6,
                             [&](std::size_t) { return number; });
      dequantize_fp8(out, back, given);
      const Values elements = out.values(), restored = back.values();
      for (std::size_t i = 0; i < restored.size(); ++i) {
        ASSERT_NEAR(restored[i], elements[i] * number, std::abs(elements[i]) * 0x1p-8);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, QuantizeTest, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& p) { return std::string(name(p.param)); });

std::vector<std::uint8_t> truths(std::size_t n) {
  std::vector<std::uint8_t> bits(n);
  for (std::size_t i = 0; i < n; ++i) bits[i] = i * 2654435761u >> 28 & 1 ? i % 255 + 1 : 0;
  return bits;
}

Values packed(const std::vector<std::uint8_t>& bits, std::size_t begin, std::size_t end, bool big) {
  Values bytes((end - begin + 7) / 8, 0);
  for (std::size_t i = begin; i < end; ++i) {
    const std::size_t bit = (i - begin) % 8;
    if (bits[i] != 0) bytes[(i - begin) / 8] += 1 << (big ? 7 - bit : bit);
  }
  return bytes;
}

TEST(PackBits, OneArray) {
  for (const BitOrder order : {BitOrder::big, BitOrder::little}) {
    for (const std::size_t n : {0, 1, 7, 8, 9, 1000}) {
      const std::vector<std::uint8_t> bits = truths(n);
      const TestTensor x = TestTensor::bytes(bits);
      const TestTensor out =
          TestTensor::poisoned({static_cast<std::int64_t>((n + 7) / 8)}, DType::u8);
      packbits(x, out, order);
      EXPECT_EQ(out.values(), packed(bits, 0, n, order == BitOrder::big));
      EXPECT_TRUE(out.guards_intact());
    }
  }
}

TEST(PackBits, Segments) {
  const std::vector<std::uint8_t> bits = truths(45);
  const TestTensor x = TestTensor::bytes(bits);
  const std::vector<std::int32_t> from = {0, 4, 4, 11, 45}, to = {0, 1, 1, 2, 7};
  for (const BitOrder order : {BitOrder::big, BitOrder::little}) {
    const TestTensor out = TestTensor::poisoned({7}, DType::u8);
    segment_packbits(x, TestTensor::ints(from), TestTensor::ints(to), out, order);
    Values ref;
    for (std::size_t r = 0; r < 4; ++r) {
      const Values part = packed(bits, static_cast<std::size_t>(from[r]),
                                 static_cast<std::size_t>(from[r + 1]), order == BitOrder::big);
      ref.insert(ref.end(), part.begin(), part.end());
    }
    EXPECT_EQ(out.values(), ref);
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST(PackBits, GarbageSegmentsStayInside) {
  if (test::test_device().is_cpu()) return;  // there it is an error: see below
  const TestTensor x = TestTensor::bytes(truths(45));
  const TestTensor garbage = TestTensor::ints({-2000000000, 2000000000, -5, 2147483647, 7});
  const TestTensor out = TestTensor::poisoned({7}, DType::u8);
  segment_packbits(x, garbage, garbage, out);
  EXPECT_TRUE(out.guards_intact());
}

TEST(Quantize, BadInput) {
  const TestTensor input = TestTensor::random({4, 256}, DType::bf16, 1);
  const TestTensor out = TestTensor::poisoned({4, 256}, DType::f8e4m3);
  const TestTensor narrow = TestTensor::poisoned({4, 128}, DType::f8e4m3);
  const TestTensor scales = TestTensor::poisoned({4, 1}, DType::f32);
  const TestTensor three = TestTensor::poisoned({3}, DType::f32);
  const TestTensor bytes = TestTensor::poisoned({2}, DType::u8), x = TestTensor::bytes(truths(9));
  const TestTensor x17 = TestTensor::bytes(truths(17));
  const std::vector<std::uint8_t> clean = out.raw();
  const Fp8Scale computed = Fp8Scale::computed(scales);
  using enum ErrorCode;
  std::vector<test::BadCall> calls = {
      {[&] { quantize_fp8(out, out, 1.f); }, wrong_type,
       "quantize_fp8: input: got f8e4m3, expected f32 or f16 or bf16"},
      {[&] { quantize_fp8(input, input, 1.f); }, wrong_type,
       "quantize_fp8: out: got bf16, expected f8e4m3 or f8e5m2"},
      {[&] { quantize_fp8(input, narrow, 1.f); }, invalid_argument,
       "quantize_fp8: out: got shape [4, 128], expected [4, 256], the shape of input"},
      {[&] { quantize_fp8(input, out, computed, ScaleBlock::per_group()); }, invalid_argument,
       "quantize_fp8: scales: got 1 in dimension 1 (shape [4, 1]), expected 2 (blocks of 128 "
       "columns)"},
      {[&] { quantize_fp8(input, out, computed, {0, 8}); }, invalid_argument,
       "quantize_fp8: block: got 0 x 8, expected 1 row or more, and 0 columns or more"},
      {[&] { dequantize_fp8(out, input, computed); }, invalid_argument,
       "dequantize_fp8: scale: got computed scales, expected given ones"},
      {[&] { dequantize_fp8(out, input, three.view()); }, invalid_argument,
       "dequantize_fp8: scale: got " + to_string(three.view()) +
           ", expected one element, or rank 2"},
      {[&] { packbits(x17, bytes); }, invalid_argument,
       "packbits: out: got 2 in dimension 0 (shape [2]), expected 3 (eighths of x, rounded up)"},
      {[&] { packbits(scales, bytes); }, invalid_argument,
       "packbits: x: got rank 2 (shape [4, 1]), expected rank 1"}};
  const TestTensor from = TestTensor::ints({0, 4, 9}), to = TestTensor::ints({0, 2, 2});
  if (test::test_device().is_cpu()) {
    calls.push_back({[&] { segment_packbits(x, from, to, bytes); }, invalid_argument,
                     "segment_packbits: out_indptr: got 2 at 1, expected 1, 1 bytes after the "
                     "entry before it"});
  }
  test::expect_errors(calls);
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
