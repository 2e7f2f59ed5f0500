#include "quire/activation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

std::vector<double> reference_silu_and_mul(const std::vector<double>& input, std::size_t hidden) {
  std::vector<double> out;
  for (std::size_t row = 0; row < input.size(); row += 2 * hidden) {
    for (std::size_t i = row; i < row + hidden; ++i) {
      out.push_back(input[i] / (1 + std::exp(-input[i])) * input[i + hidden]);
    }
  }
  return out;
}

void expect_close(const std::vector<double>& out, const std::vector<double>& ref, DType dtype) {
  ASSERT_EQ(out.size(), ref.size());
  const double storing = dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!(std::abs(out[i] - ref[i]) <= (1.01 * storing + 1e-6) * std::abs(ref[i]) + 1e-7)) {
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
  test::expect_errors({
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
