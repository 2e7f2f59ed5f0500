#include "quire/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/quantized.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

using Function = double (*)(double);

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return x / 2 * std::erfc(-x / std::numbers::sqrt2); }
double gelu_tanh(double x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

std::vector<double> reference(Function act, const std::vector<double>& input, std::size_t hidden) {
  std::vector<double> out;
  for (std::size_t row = 0; row < input.size(); row += 2 * hidden) {
    for (std::size_t i = row; i < row + hidden; ++i) {
      out.push_back(act(input[i]) * input[i + hidden]);
    }
  }
  return out;
}

std::vector<double> reference_silu_and_mul(const std::vector<double>& input, std::size_t hidden) {
  return reference(silu, input, hidden);
}

struct Gate {
  void (*apply)(const TensorView&, const TensorView&, Stream);
  void (*quantize)(const TensorView&, const TensorView&, const Fp8Scale&, Stream);
  Function exact;
};
constexpr Gate kGates[] = {{silu_and_mul, silu_and_mul_quant, silu},
                           {gelu_and_mul, gelu_and_mul_quant, gelu},
                           {gelu_tanh_and_mul, gelu_tanh_and_mul_quant, gelu_tanh}};

void expect_close(const std::vector<double>& out, const std::vector<double>& ref, DType dtype,
                  double absolute = 1e-7) {
  ASSERT_EQ(out.size(), ref.size());
  const double storing = dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!(std::abs(out[i] - ref[i]) <= (1.01 * storing + 1e-6) * std::abs(ref[i]) + absolute)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << ref[i];
    }
  }
}

std::size_t count(const test::Shape& shape) {
  std::size_t n = 1;
  for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
  return n;
}

struct SiluCase {
  test::Shape out_shape;
  std::int64_t before = 0, behind = 0;  // padding of the rows
};

std::vector<SiluCase> silu_cases() {
  std::vector<SiluCase> cases = {
      {{1, 1}},    {{8}},          {{3, 17}},       {{2, 64}, 8, 8}, {{2, 3, 20}, 4, 4},
      {{1, 1, 6}}, {{2, 1, 3, 8}}, {{5, 34}, 2, 0}, {{2, 300}},      {{3, 33}, 1, 1}};
  if (!test::is_emulated()) {
    const std::vector<SiluCase> large = {
        {{7, 11008}}, {{1000, 250}, 2, 4}, {{3, 5, 4001}}, {{2, 14336}, 8, 0}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

class SiluAndMulTest : public testing::TestWithParam<DType> {};

TEST_P(SiluAndMulTest, MatchesReference) {
  const DType dtype = GetParam();
  for (const SiluCase& c : silu_cases()) {
    test::Shape shape = c.out_shape;
    shape.back() *= 2;
    SCOPED_TRACE(std::string(name(dtype)) + " rank " + std::to_string(shape.size()) + " hidden " +
                 std::to_string(c.out_shape.back()));
    const PaddedTensor input(test::random_values(count(shape), 1, 3), shape, dtype, c.before,
                             c.behind);
    const PaddedTensor out({}, c.out_shape, dtype, c.behind, c.before);
    silu_and_mul(input, out);
    expect_close(out.values(), reference_silu_and_mul(input.values(), c.out_shape.back()), dtype);
    EXPECT_TRUE(out.padding_intact());
    EXPECT_TRUE(input.unchanged());
  }
}

TEST_P(SiluAndMulTest, OtherFunctions) {
  const DType dtype = GetParam();
  for (const SiluCase& c : {SiluCase{{3, 17}}, SiluCase{{2, 3, 40}, 8, 8}}) {
    test::Shape shape = c.out_shape;
    shape.back() *= 2;
    const PaddedTensor input(test::random_values(count(shape), 1, 3), shape, dtype, c.before,
                             c.behind);
    for (const Gate& gate : kGates) {
      const PaddedTensor out({}, c.out_shape, dtype, c.behind, c.before);
      gate.apply(input, out, {});
      // 1 + erf(x) is known to a few 1e-8, and x goes up to 12.
      expect_close(out.values(), reference(gate.exact, input.values(), c.out_shape.back()), dtype,
                   1e-5);
      EXPECT_TRUE(out.padding_intact() && input.unchanged());
    }
  }
}

TEST_P(SiluAndMulTest, QuantizedByAGivenScale) {
  const DType dtype = GetParam();
  for (const DType out_dtype : {DType::f8e4m3, DType::f8e5m2}) {
    for (const SiluCase& c : {SiluCase{{3, 17}, 1, 0}, SiluCase{{2, 3, 40}, 8, 8}}) {
      test::Shape shape = c.out_shape;
      shape.back() *= 2;
      const PaddedTensor input(test::random_values(count(shape), 1, 3), shape, dtype, c.before,
                               c.behind);
      const TestTensor scale = TestTensor::from({0.03125}, {1}, DType::f32);
      for (const Gate& gate : kGates) {
        const std::vector<double> exact = reference(gate.exact, input.values(), c.out_shape.back());
        for (const Fp8Scale& given : {Fp8Scale(0.03125f), Fp8Scale(scale.view())}) {
          const PaddedTensor out({}, c.out_shape, out_dtype, c.behind, c.before);
          gate.quantize(input, out, given, {});
          test::expect_quantized(
              out.values(), exact, out_dtype, 1e-5, [](std::size_t) { return 0.03125; }, 2e-6);
          EXPECT_TRUE(out.padding_intact() && input.unchanged());
        }
      }
    }
  }
}

TEST_P(SiluAndMulTest, QuantizedByScalesOfGroups) {
  const DType dtype = GetParam();
  for (const SiluCase& c : {SiluCase{{3, 128}}, SiluCase{{2, 3, 384}, 3, 2}, SiluCase{{256}}}) {
    test::Shape shape = c.out_shape, scale_shape = c.out_shape;
    shape.back() *= 2;
    scale_shape.back() /= 128;
    const PaddedTensor input(test::random_values(count(shape), 1, 3), shape, dtype, c.before,
                             c.behind);
    const std::vector<double> exact = reference(silu, input.values(), c.out_shape.back());
    for (const bool power_of_two : {false, true}) {
      const PaddedTensor out({}, c.out_shape, DType::f8e4m3, c.behind, c.before);
      const PaddedTensor scales({}, scale_shape, DType::f32, 1, 1);
      silu_and_mul_quant(input, out, Fp8Scale::computed(scales, power_of_two));
      const std::vector<double> got = scales.values();
      for (std::size_t g = 0; g < got.size(); ++g) {
        double expected = test::expected_scale(exact, g * 128, (g + 1) * 128, DType::f8e4m3);
        if (power_of_two) expected = std::exp2(std::ceil(std::log2(expected)));
        ASSERT_NEAR(got[g], expected, 1e-5 * expected) << "group " << g;
      }
      test::expect_quantized(out.values(), exact, DType::f8e4m3, 1e-5,
                             [&](std::size_t i) { return got[i / 128]; });
      EXPECT_TRUE(out.padding_intact() && scales.padding_intact() && input.unchanged());
    }
  }
}

TEST(SiluAndMul, ColumnMajorScales) {
  const TestTensor input = TestTensor::random({5, 512}, DType::bf16, 1);
  const TestTensor out = TestTensor::poisoned({5, 256}, DType::f8e4m3);
  const TestTensor stored = TestTensor::poisoned({2, 5}, DType::f32);
  TensorView scales = stored.view();
  scales.shape = {5, 2};
  scales.strides = {1, 5};
  silu_and_mul_quant(input, out, Fp8Scale::computed(scales));
  const std::vector<double> exact = reference_silu_and_mul(input.values(), 256);
  const std::vector<double> got = stored.values();
  for (std::size_t g = 0; g < 10; ++g) {
    const double expected = test::expected_scale(exact, g * 128, (g + 1) * 128, DType::f8e4m3);
    EXPECT_NEAR(got[g % 2 * 5 + g / 2], expected, 1e-5 * expected);
  }
}

TEST_P(SiluAndMulTest, LeadingDimensionsOfAnyStride) {
  const DType dtype = GetParam();
  // [2, 3, 4, 10] stored as [4, 2, 3, 10]: two leading dimensions merge, one does not.
  const TestTensor stored = TestTensor::random({4, 2, 3, 10}, dtype, 2);
  TensorView input = stored.view();
  input.shape = {2, 3, 4, 10};
  input.strides = {30, 10, 60, 1};
  const TestTensor out = TestTensor::poisoned({2, 3, 4, 5}, dtype);
  silu_and_mul(input, out);

  const std::vector<double> values = stored.values();
  std::vector<double> ordered;
  for (int row = 0; row < 24; ++row) {
    const std::size_t at = row / 4 * 10 + row % 4 * 60;
    ordered.insert(ordered.end(), values.begin() + at, values.begin() + at + 10);
  }
  expect_close(out.values(), reference_silu_and_mul(ordered, 5), dtype);

  // Rows that all read the same memory.
  input.strides = {0, 0, 0, 1};
  silu_and_mul(input, out);
  ordered.clear();
  for (int row = 0; row < 24; ++row) {
    ordered.insert(ordered.end(), values.begin(), values.begin() + 10);
  }
  expect_close(out.values(), reference_silu_and_mul(ordered, 5), dtype);
  EXPECT_TRUE(out.guards_intact());
}

// Leading dimensions lie evenly in the input only: they must not be merged.
TEST_P(SiluAndMulTest, OutputWithGapsBetweenGroupsOfRows) {
  const DType dtype = GetParam();
  const TestTensor input = TestTensor::random({2, 3, 10}, dtype, 3);
  const TestTensor whole = TestTensor::poisoned({2, 4, 5}, dtype);
  silu_and_mul(input, whole.view().slice(1, 0, 3));
  std::vector<double> out = whole.values();
  for (const int row : {7, 3}) {
    const auto begin = out.begin() + row * 5;
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(std::isnan(begin[i]));
    out.erase(begin, begin + 5);
  }
  expect_close(out, reference_silu_and_mul(input.values(), 5), dtype);
}

INSTANTIATE_TEST_SUITE_P(DTypes, SiluAndMulTest,
                         testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(SiluAndMul, LargeMagnitudes) {
  const TestTensor input = TestTensor::from({-1e4, -100, 100, 1e4, 1, 1, 1, 1}, {8}, DType::f32);
  const TestTensor out = TestTensor::poisoned({4}, DType::f32);
  silu_and_mul(input, out);
  const std::vector<double> values = out.values();
  EXPECT_EQ(values[0], 0);
  EXPECT_NEAR(values[1], 0, 1e-40);
  EXPECT_EQ(values[2], 100);
  EXPECT_EQ(values[3], 1e4);
}

TEST(SiluAndMul, EmptyInputsDoNothing) {
  silu_and_mul(TestTensor::poisoned({0, 16}, DType::bf16),
               TestTensor::poisoned({0, 8}, DType::bf16));
  silu_and_mul(TestTensor::poisoned({3, 0}, DType::bf16),
               TestTensor::poisoned({3, 0}, DType::bf16));
}

TEST(SiluAndMul, BadInput) {
  const TestTensor input = TestTensor::random({2, 8}, DType::bf16, 1);
  const TestTensor out = TestTensor::poisoned({2, 4}, DType::bf16);
  const TestTensor f16_out = TestTensor::poisoned({2, 4}, DType::f16);
  const TestTensor ints = TestTensor::ints({1, 2, 3, 4});
  const std::vector<std::uint8_t> clean = out.raw();
  TensorView scalar = input.view();
  scalar.rank = 0;
  TensorView column = input.view();
  column.strides = {1, 2};
  TensorView repeated = out.view();
  repeated.strides = {0, 1};
  TensorView elsewhere = out.view();
  elsewhere.device = test::other_device();
  TensorView null = out.view();
  null.data = nullptr;
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  using enum ErrorCode;
  const TestTensor bytes = TestTensor::poisoned({2, 4}, DType::f8e4m3);
  const TestTensor wide = TestTensor::poisoned({2, 512}, DType::bf16);
  const TestTensor wide_bytes = TestTensor::poisoned({2, 256}, DType::f8e4m3);
  const TestTensor scales = TestTensor::poisoned({2, 1}, DType::f32);
  const Fp8Scale computed = Fp8Scale::computed(scales);
  test::expect_errors({
      {[&] { gelu_and_mul_quant(input, bytes, computed); }, ErrorCode::invalid_argument,
       "gelu_and_mul_quant: out: got 4 elements a row, expected a multiple of 128, for computed "
       "scales"},
      {[&] { silu_and_mul_quant(wide, wide_bytes, computed); }, ErrorCode::invalid_argument,
       "silu_and_mul_quant: scales: got 1 in dimension 1 (shape [2, 1]), expected 2 (groups of 128 "
       "in out)"},
      {[&] { gelu_tanh_and_mul_quant(input, bytes, -1.f); }, ErrorCode::invalid_argument,
       "gelu_tanh_and_mul_quant: scale: got -1, expected a finite number above 0"},
      {[&] { silu_and_mul(scalar, out); }, invalid_argument,
       "silu_and_mul: input: got rank 0 (shape []), expected rank 1 or more"},
      {[&] { silu_and_mul(ints, out); }, wrong_type,
       "silu_and_mul: input: got i32, expected f32 or f16 or bf16"},
      {[&] { silu_and_mul(column, out); }, invalid_argument,
       "silu_and_mul: input: got strides [1, 2], expected stride 1 in the last dimension"},
      {[&] { silu_and_mul(input, f16_out); }, wrong_type,
       "silu_and_mul: out: got f16, expected bf16"},
      {[&] { silu_and_mul(input, out.view().slice(0, 0, 1)); }, invalid_argument,
       "silu_and_mul: out: got 1 in dimension 0 (shape [1, 4]), expected 2 (as in input)"},
      {[&] { silu_and_mul(input, out.view().slice(1, 0, 3)); }, invalid_argument,
       "silu_and_mul: input: got 8 in dimension 1 (shape [2, 8]), expected 6 (twice the last "
       "dimension of out)"},
      {[&] { silu_and_mul(input, repeated); }, invalid_argument,
       "silu_and_mul: out: got strides [0, 1] for shape [2, 4], expected an output whose elements "
       "do not overlap"},
      {[&] { silu_and_mul(input, elsewhere); }, invalid_argument,
       "silu_and_mul: out: got " + there + ", expected " + here + ", the device of input"},
      {[&] { silu_and_mul(input, null); }, invalid_argument,
       "silu_and_mul: out: got a null pointer, expected memory for shape [2, 4]"},
  });
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
