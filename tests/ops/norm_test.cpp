#include "quire/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/reference_norm.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::reference_layer_norm;
using test::reference_rms_norm;
using test::TestTensor;

// Largest error of storing a value near 1.
double unit_roundoff(DType dtype) {
  return dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
}

void expect_close(const std::vector<double>& out, const std::vector<double>& ref, DType dtype,
                  double absolute = 1e-7) {
  ASSERT_EQ(out.size(), ref.size());
  // Storing the result, and a few roundings of f32.
  const double relative = unit_roundoff(dtype) * 1.01 + 1e-6;
  for (std::size_t i = 0; i < out.size(); ++i) {
    // Negated, so that NaN fails.
    if (!(std::abs(out[i] - ref[i]) <= relative * std::abs(ref[i]) + absolute)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << ref[i];
    }
  }
}

struct NormCase {
  test::Shape shape;
  std::int64_t before = 0, behind = 0;  // padding of the rows
};

std::string text_of(const NormCase& c, DType dtype) {
  std::string text(name(dtype));
  for (const std::int64_t size : c.shape) text += " " + std::to_string(size);
  return text + " padding " + std::to_string(c.before) + " " + std::to_string(c.behind);
}

// Aligned and odd sizes, every width of access, rows of part of a warp, a warp and several warps.
std::vector<NormCase> norm_cases() {
  std::vector<NormCase> cases = {{{1, 1}},           {{3, 8}},         {{5, 17}},
                                 {{2, 64}, 8, 8},    {{3, 111}, 1, 2}, {{2, 128}, 0, 4},
                                 {{2, 130}, 2, 0},   {{4, 3, 16}},     {{3, 5, 24}, 8, 0},
                                 {{2, 1, 40}, 3, 4}, {{2, 512}},       {{1, 600}, 4, 4},
                                 {{9, 2, 64}, 8, 8}, {{2, 16400}}};
  // Many rows: fewer threads each, with several accesses.
  if (test::is_emulated()) cases.insert(cases.end(), {{{60, 5, 256}}, {{40, 300}, 1, 0}});
  if (!test::is_emulated()) {
    const std::vector<NormCase> large = {
        {{7, 4096}},  {{64, 32, 128}, 0, 64}, {{3, 16384}},       {{2, 16392}, 8, 8},
        {{2, 40000}}, {{301, 2050}, 1, 1},    {{2, 20001}, 1, 0}, {{4000, 72}}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

std::size_t count(const test::Shape& shape) {
  std::size_t n = 1;
  for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
  return n;
}

class NormTest : public testing::TestWithParam<DType> {};

TEST_P(NormTest, RmsNormMatchesReference) {
  const DType dtype = GetParam();
  for (const NormCase& c : norm_cases()) {
    SCOPED_TRACE(text_of(c, dtype));
    const PaddedTensor input(test::random_values(count(c.shape), 1), c.shape, dtype, c.before,
                             c.behind);
    const TestTensor weight = TestTensor::random({c.shape.back()}, dtype, 2);
    const PaddedTensor out({}, c.shape, dtype, c.before, c.behind);
    rms_norm(input, weight, out, 1e-5f);
    expect_close(out.values(), reference_rms_norm(input.values(), weight.values(), 1e-5f), dtype);
    EXPECT_TRUE(out.padding_intact());
    EXPECT_TRUE(input.unchanged());
  }
}

TEST_P(NormTest, RmsNormInPlace) {
  const DType dtype = GetParam();
  for (const NormCase& c : norm_cases()) {
    SCOPED_TRACE(text_of(c, dtype));
    const PaddedTensor input(test::random_values(count(c.shape), 3), c.shape, dtype, c.before,
                             c.behind);
    const TestTensor weight = TestTensor::random({c.shape.back()}, dtype, 4);
    const std::vector<double> ref = reference_rms_norm(input.values(), weight.values(), 1e-6f);
    rms_norm(input, weight, input);
    expect_close(input.values(), ref, dtype);
    EXPECT_TRUE(input.padding_intact());
  }
}

TEST_P(NormTest, FusedAddNormalisesTheRoundedResidual) {
  const DType dtype = GetParam();
  for (const NormCase& c : norm_cases()) {
    if (c.shape.size() != 2) continue;
    SCOPED_TRACE(text_of(c, dtype));
    const PaddedTensor input(test::random_values(count(c.shape), 5), c.shape, dtype, c.before,
                             c.behind);
    const PaddedTensor residual(test::random_values(count(c.shape), 6, 3), c.shape, dtype, 0,
                                c.before + c.behind);
    const TestTensor weight = TestTensor::random({c.shape.back()}, dtype, 7);
    std::vector<double> sum = residual.values();
    const std::vector<double> added = input.values();
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += added[i];
    sum = test::rounded(sum, dtype);
    fused_add_rms_norm(input, residual, weight, 1e-5f);
    EXPECT_EQ(residual.values(), sum);
    expect_close(input.values(), reference_rms_norm(sum, weight.values(), 1e-5f), dtype);
    EXPECT_TRUE(input.padding_intact());
    EXPECT_TRUE(residual.padding_intact());
  }
}

TEST_P(NormTest, GemmaAddsOneToTheWeight) {
  const DType dtype = GetParam();
  for (const NormCase& c : norm_cases()) {
    if (c.shape.back() > 700) continue;
    SCOPED_TRACE(text_of(c, dtype));
    const PaddedTensor input(test::random_values(count(c.shape), 1), c.shape, dtype, c.before,
                             c.behind);
    // In f32 beside a 16-bit input too.
    for (const DType weight_dtype : {dtype, DType::f32}) {
      const TestTensor weight = TestTensor::random({c.shape.back()}, weight_dtype, 2);
      const PaddedTensor out({}, c.shape, dtype, c.before, c.behind);
      gemma_rms_norm(input, weight, out, 1e-5f);
      const std::vector<double> ref = reference_rms_norm(input.values(), weight.values(), 1e-5f, 1);
      expect_close(out.values(), ref, dtype);
      EXPECT_TRUE(out.padding_intact());
    }
  }
}

TEST_P(NormTest, GemmaFusedAdd) {
  const DType dtype = GetParam();
  const TestTensor input = TestTensor::random({3, 72}, dtype, 1);
  const TestTensor residual = TestTensor::random({3, 72}, dtype, 2);
  const TestTensor weight = TestTensor::random({72}, dtype, 3);
  std::vector<double> sum = residual.values();
  const std::vector<double> added = input.values();
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += added[i];
  sum = test::rounded(sum, dtype);
  gemma_fused_add_rms_norm(input, residual, weight);
  EXPECT_EQ(residual.values(), sum);
  expect_close(input.values(), reference_rms_norm(sum, weight.values(), 1e-6f, 1), dtype);
}

TEST_P(NormTest, LayerNormMatchesReference) {
  const DType dtype = GetParam();
  for (const NormCase& c : norm_cases()) {
    SCOPED_TRACE(text_of(c, dtype));
    // Far from zero: the variance must not be the difference of large numbers.
    std::vector<double> values = test::random_values(count(c.shape), 1);
    for (double& x : values) x += 8;
    const PaddedTensor input(values, c.shape, dtype, c.before, c.behind);
    const DType weight_dtype = c.shape.size() == 2 ? DType::f32 : dtype;
    const TestTensor gamma = TestTensor::random({c.shape.back()}, weight_dtype, 2);
    const TestTensor beta = TestTensor::random({c.shape.back()}, weight_dtype, 3);
    const PaddedTensor out({}, c.shape, dtype, c.before, c.behind);
    layer_norm(input, gamma, beta, out, 1e-5f);
    const std::vector<double> ref =
        reference_layer_norm(input.values(), gamma.values(), beta.values(), 1e-5f);
    // Cancellation against beta and the mean leaves an error of their size.
    expect_close(out.values(), ref, dtype, 1e-4);
    EXPECT_TRUE(out.padding_intact());
    EXPECT_TRUE(input.unchanged());
    layer_norm(input, gamma, beta, input, 1e-5f);
    EXPECT_EQ(input.values(), out.values());
  }
}

TEST_P(NormTest, HeadsOfAPackedTensor) {
  // QK-norm: the q heads of [tokens, q and kv heads, head_dim].
  const DType dtype = GetParam();
  const TestTensor packed = TestTensor::random({3, 6, 16}, dtype, 8);
  const TestTensor weight = TestTensor::random({16}, dtype, 9);
  const std::vector<double> before = packed.values();
  std::vector<double> ref = reference_rms_norm(before, weight.values(), 1e-6f);
  for (std::size_t i = 0; i < ref.size(); ++i) {
    if (i / 16 % 6 >= 4) ref[i] = before[i];
  }
  const TensorView q = packed.view().slice(1, 0, 4);
  rms_norm(q, weight, q);
  expect_close(packed.values(), ref, dtype);
}

INSTANTIATE_TEST_SUITE_P(DTypes, NormTest, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(Norm, ZeroRowsAndInfinities) {
  const double inf = std::numeric_limits<double>::infinity();
  const TestTensor input = TestTensor::from({0, 0, 0, 0, 1, inf, 2, 3}, {2, 4}, DType::f32);
  const TestTensor weight = TestTensor::from({1, 1, 1, 1}, {4}, DType::f32);
  const TestTensor out = TestTensor::poisoned({2, 4}, DType::f32);
  rms_norm(input, weight, out);
  const std::vector<double> values = out.values();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(values[i], 0);
  EXPECT_EQ(values[4], 0);
  EXPECT_TRUE(std::isnan(values[5]));  // infinity / infinity
}

TEST(Norm, EmptyInputsDoNothing) {
  const TestTensor weight = TestTensor::random({16}, DType::bf16, 1);
  const TestTensor no_rows = TestTensor::poisoned({0, 16}, DType::bf16);
  const TestTensor no_heads = TestTensor::poisoned({3, 0, 16}, DType::bf16);
  const TestTensor no_hidden = TestTensor::poisoned({3, 0}, DType::bf16);
  rms_norm(no_rows, weight, no_rows);
  rms_norm(no_heads, weight, no_heads);
  rms_norm(no_hidden, TestTensor::poisoned({0}, DType::bf16), no_hidden);
}

TEST(Norm, BadInput) {
  const TestTensor input = TestTensor::random({2, 8}, DType::bf16, 1);
  const TestTensor residual = TestTensor::random({2, 8}, DType::bf16, 2);
  const TestTensor weight = TestTensor::random({8}, DType::bf16, 3);
  const TestTensor out = TestTensor::poisoned({2, 8}, DType::bf16);
  const TestTensor f16 = TestTensor::random({2, 8}, DType::f16, 4);
  const TestTensor ints = TestTensor::ints(std::vector<std::int32_t>(16, 1));
  const std::vector<std::uint8_t> clean_input = input.raw(), clean_out = out.raw(),
                                  clean_residual = residual.raw();

  TensorView ints_2d =
      TensorView::contiguous(ints.view().data, DType::i32, {2, 8}, test::test_device());
  TensorView column = input.view();
  column.strides = {1, 2};
  TensorView repeated = out.view();
  repeated.strides = {0, 1};
  TensorView misaligned = out.view();
  misaligned.data = static_cast<std::uint8_t*>(misaligned.data) + 1;
  TensorView null = input.view();
  null.data = nullptr;
  TensorView elsewhere = weight.view();
  elsewhere.device = test::other_device();
  TensorView reversed = input.view();
  reversed.strides = {-8, 1};
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  const auto address = [](const TensorView& t) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", t.data);
    return std::string(text);
  };
  const float nan = std::nanf("");
  using enum ErrorCode;
  const TensorView flat = input.view().slice(0, 0, 1);
  TensorView one_dim = TensorView::contiguous(flat.data, DType::bf16, {8}, test::test_device());

  test::expect_errors({
      {[&] { rms_norm(one_dim, weight, out); }, invalid_argument,
       "rms_norm: input: got " + to_string(one_dim) + ", expected rank 2 or 3"},
      {[&] { rms_norm(ints_2d, weight, out); }, wrong_type,
       "rms_norm: input: got i32, expected f32 or f16 or bf16"},
      {[&] { rms_norm(column, weight, out); }, invalid_argument,
       "rms_norm: input: got strides [1, 2], expected stride 1 in the last dimension"},
      {[&] { rms_norm(null, weight, out); }, invalid_argument,
       "rms_norm: input: got a null pointer, expected memory for shape [2, 8]"},
      {[&] { rms_norm(input, input, out); }, invalid_argument,
       "rms_norm: weight: got rank 2 (shape [2, 8]), expected rank 1"},
      {[&] { rms_norm(input, weight.view().slice(0, 0, 7), out); }, invalid_argument,
       "rms_norm: weight: got 7 in dimension 0 (shape [7]), expected 8 (last dimension of input)"},
      {[&] { rms_norm(f16, weight, f16); }, wrong_type,
       "rms_norm: weight: got bf16, expected f16 or f32"},
      {[&] { rms_norm(input, elsewhere, out); }, invalid_argument,
       "rms_norm: weight: got " + there + ", expected " + here + ", the device of input"},
      {[&] { rms_norm(input, weight, f16); }, wrong_type, "rms_norm: out: got f16, expected bf16"},
      {[&] { rms_norm(input, weight, out.view().slice(0, 0, 1)); }, invalid_argument,
       "rms_norm: out: got shape [1, 8], expected [2, 8], the shape of input"},
      {[&] { rms_norm(input, weight, repeated); }, invalid_argument,
       "rms_norm: out: got strides [0, 1] for shape [2, 8], expected an output whose elements do "
       "not overlap"},
      {[&] { rms_norm(input, weight, misaligned); }, invalid_argument,
       "rms_norm: out: got address " + address(misaligned) +
           ", expected an address aligned to 2 bytes for bf16"},
      {[&] { rms_norm(input, weight, reversed); }, invalid_argument,
       "rms_norm: out: got " + to_string(reversed) +
           ", expected the strides of input, whose memory it is: " + to_string(input.view())},
      {[&] { rms_norm(input, weight, out, nan); }, invalid_argument,
       "rms_norm: eps: got nan, expected a finite number, 0 or above"},
      {[&] { rms_norm(input, weight, out, -1e-6f); }, invalid_argument,
       "rms_norm: eps: got -1e-06, expected a finite number, 0 or above"},
      {[&] { fused_add_rms_norm(input, input, weight); }, invalid_argument,
       "fused_add_rms_norm: residual: got the memory of input, expected memory of its own"},
      {[&] { fused_add_rms_norm(input, f16, weight); }, wrong_type,
       "fused_add_rms_norm: residual: got f16, expected bf16"},
      {[&] { fused_add_rms_norm(input, residual, weight, nan); }, invalid_argument,
       "fused_add_rms_norm: eps: got nan, expected a finite number, 0 or above"},
  });
  EXPECT_EQ(input.raw(), clean_input);
  EXPECT_EQ(residual.raw(), clean_residual);
  EXPECT_EQ(out.raw(), clean_out);
}

}  // namespace
}  // namespace quire
