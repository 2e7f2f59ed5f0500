#include <gtest/gtest.h>

#include <cmath>

#include "quire/norm.h"
#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/quantized.h"
#include "support/reference_norm.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

struct QuantCase {
  DType dtype, out_dtype;
  test::Shape shape;
  std::int64_t before = 0, behind = 0;
};

std::string text_of(const QuantCase& c) {
  std::string text = std::string(name(c.dtype)) + " to " + std::string(name(c.out_dtype));
  for (const std::int64_t size : c.shape) text += " " + std::to_string(size);
  return text;
}

std::vector<QuantCase> quant_cases() {
  std::vector<QuantCase> cases = {{DType::bf16, DType::f8e4m3, {3, 64}},
                                  {DType::bf16, DType::f8e4m3, {2, 5, 24}, 8, 0},
                                  {DType::f16, DType::f8e5m2, {4, 512}},
                                  {DType::f16, DType::f8e4m3, {3, 17}, 1, 2},
                                  {DType::f32, DType::f8e4m3, {2, 130}, 2, 0}};
  if (!test::is_emulated()) {
    const std::vector<QuantCase> large = {{DType::bf16, DType::f8e4m3, {700, 4096}},
                                          {DType::f16, DType::f8e4m3, {5, 8200}, 8, 8},
                                          {DType::f32, DType::f8e5m2, {3, 40000}},
                                          {DType::bf16, DType::f8e4m3, {9, 20001}}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

std::size_t count(const test::Shape& shape) {
  std::size_t n = 1;
  for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
  return n;
}

// The inputs of a case and where its results go.
struct QuantRun {
  explicit QuantRun(const QuantCase& c)
      : input(test::random_values(count(c.shape), 1, 2), c.shape, c.dtype, c.before, c.behind),
        weight(TestTensor::random({c.shape.back()}, c.dtype, 2)),
        beta(TestTensor::random({c.shape.back()}, DType::f32, 3)),
        gamma(TestTensor::random({c.shape.back()}, DType::f32, 4)),
        out({}, c.shape, c.out_dtype, c.behind, c.before),
        scales(TestTensor::poisoned({c.shape.begin(), c.shape.end() - 1}, DType::f32)) {}

  PaddedTensor input;
  TestTensor weight, beta, gamma;
  PaddedTensor out;
  TestTensor scales;
};

constexpr double kSlack = 4e-6;

void expect_computed(const QuantRun& run, const std::vector<double>& values, const QuantCase& c) {
  const auto hidden = static_cast<std::size_t>(c.shape.back());
  const std::vector<double> scales = run.scales.values();
  for (std::size_t row = 0; row < scales.size(); ++row) {
    const double expected =
        test::expected_scale(values, row * hidden, (row + 1) * hidden, c.out_dtype);
    ASSERT_NEAR(scales[row], expected, expected * kSlack) << "row " << row;
  }
  test::expect_quantized(run.out.values(), values, c.out_dtype, kSlack,
                         [&](std::size_t i) { return scales[i / hidden]; });
  EXPECT_TRUE(run.out.padding_intact() && run.scales.guards_intact());
}

TEST(NormQuant, GivenScales) {
  for (const QuantCase& c : quant_cases()) {
    SCOPED_TRACE(text_of(c));
    const QuantRun run(c);
    const TestTensor scale = TestTensor::from({0.01}, {1}, DType::f32);
    // So small that some elements saturate.
    const double tiny = c.out_dtype == DType::f8e4m3 ? 0.005 : 4e-5;
    const std::vector<double> ref =
        test::reference_rms_norm(run.input.values(), run.weight.values(), 1e-5f);
    const auto expect = [&](double by) {
      test::expect_quantized(run.out.values(), ref, c.out_dtype, kSlack,
                             [&](std::size_t) { return by; });
      EXPECT_TRUE(run.out.padding_intact() && run.input.unchanged());
    };
    rms_norm_quant(run.input, run.weight, run.out, scale.view(), {.eps = 1e-5f});
    expect(static_cast<float>(0.01));
    rms_norm_quant(run.input, run.weight, run.out, static_cast<float>(tiny), {.eps = 1e-5f});
    expect(static_cast<float>(tiny));
  }
}

TEST(NormQuant, ComputedScalesOfRows) {
  for (const QuantCase& c : quant_cases()) {
    SCOPED_TRACE(text_of(c));
    const QuantRun run(c);
    rms_norm_quant(run.input, run.weight, run.out, Fp8Scale::computed(run.scales),
                   {.weight_bias = 1});
    expect_computed(run,
                    test::reference_rms_norm(run.input.values(), run.weight.values(), 1e-6f, 1), c);
    EXPECT_TRUE(run.input.unchanged());
  }
}

TEST(NormQuant, LayerNorm) {
  for (const QuantCase& c : quant_cases()) {
    SCOPED_TRACE(text_of(c));
    const QuantRun run(c);
    layer_norm_quant(run.input, run.gamma, run.beta, run.out, Fp8Scale::computed(run.scales));
    expect_computed(run,
                    test::reference_layer_norm(run.input.values(), run.gamma.values(),
                                               run.beta.values(), 1e-6f),
                    c);
  }
}

TEST(NormQuant, FusedAddKeepsTheInput) {
  for (const QuantCase& c : quant_cases()) {
    if (c.shape.size() != 2) continue;
    SCOPED_TRACE(text_of(c));
    const QuantRun run(c);
    const PaddedTensor residual(test::random_values(count(c.shape), 9, 3), c.shape, c.dtype,
                                c.behind, c.before);
    std::vector<double> sum = residual.values();
    const std::vector<double> added = run.input.values();
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += added[i];
    sum = test::rounded(sum, c.dtype);
    fused_add_rms_norm_quant(run.input, residual, run.weight, run.out,
                             Fp8Scale::computed(run.scales));
    EXPECT_EQ(residual.values(), sum);
    EXPECT_TRUE(run.input.unchanged() && residual.padding_intact());
    expect_computed(run, test::reference_rms_norm(sum, run.weight.values(), 1e-6f), c);
  }
}

TEST(NormQuant, RowsOfZerosHaveAScale) {
  const TestTensor input = TestTensor::from(std::vector<double>(32, 0), {2, 16}, DType::bf16);
  const TestTensor weight = TestTensor::random({16}, DType::bf16, 1);
  const TestTensor out = TestTensor::poisoned({2, 16}, DType::f8e4m3);
  const TestTensor scales = TestTensor::poisoned({2}, DType::f32);
  rms_norm_quant(input, weight, out, Fp8Scale::computed(scales));
  for (const double x : out.values()) EXPECT_EQ(x, 0);
  for (const double x : scales.values()) EXPECT_FLOAT_EQ(static_cast<float>(x), 1e-10f / 448);
}

TEST(NormQuant, BadInput) {
  const TestTensor input = TestTensor::random({2, 8}, DType::bf16, 1);
  const TestTensor weight = TestTensor::random({8}, DType::bf16, 2);
  const TestTensor gamma = TestTensor::random({8}, DType::f32, 3);
  const TestTensor out = TestTensor::poisoned({2, 8}, DType::f8e4m3);
  const TestTensor two = TestTensor::poisoned({2}, DType::f32);
  const TestTensor three = TestTensor::poisoned({3}, DType::f32);
  const TestTensor half = TestTensor::poisoned({1}, DType::f16);
  TensorView elsewhere = two.view().slice(0, 0, 1);
  elsewhere.device = test::other_device();
  const std::vector<std::uint8_t> clean = out.raw();
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  using enum ErrorCode;
  test::expect_errors({
      {[&] { rms_norm_quant(input, weight, input, 1.f); }, wrong_type,
       "rms_norm_quant: out: got bf16, expected f8e4m3 or f8e5m2"},
      {[&] { rms_norm_quant(input, weight, out, 0.f); }, invalid_argument,
       "rms_norm_quant: scale: got 0, expected a finite number above 0"},
      {[&] { rms_norm_quant(input, weight, out, two.view()); }, invalid_argument,
       "rms_norm_quant: scale: got 2 elements, expected 1"},
      {[&] { rms_norm_quant(input, weight, out, half.view()); }, wrong_type,
       "rms_norm_quant: scale: got f16, expected f32"},
      {[&] { rms_norm_quant(input, weight, out, elsewhere); }, invalid_argument,
       "rms_norm_quant: scale: got " + there + ", expected " + here + ", the device of out"},
      {[&] { rms_norm_quant(input, weight, out, Fp8Scale::computed(three)); }, invalid_argument,
       "rms_norm_quant: scales: got 3 in dimension 0 (shape [3]), expected 2 (as in input)"},
      {[&] { rms_norm_quant(input, weight, out, 1.f, {.weight_bias = std::nanf("")}); },
       invalid_argument, "rms_norm_quant: weight_bias: got nan, expected a finite number"},
      {[&] { layer_norm_quant(input, gamma, weight, out, 1.f); }, wrong_type,
       "layer_norm_quant: beta: got bf16, expected f32"},
      {[&] { fused_add_rms_norm_quant(input, input, weight, out, 1.f); }, invalid_argument,
       "fused_add_rms_norm_quant: residual: got the memory of input, expected memory of its own"},
  });
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
