#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Words : public PrimitiveTest {};

// Numbers of all sizes and signs, some of them NaN.
std::vector<double> mixed_numbers(int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) {
    const double size = std::ldexp(1 + i % 7 / 8., i * 5 % 23 - 11);
    values.push_back(i % 11 == 3 || i % 96 > 64 ? NAN : i % 3 == 0 ? -size : size);
  }
  return values;
}

void test_words(DType dtype, kernels::DType kernel_dtype, int n) {
  SCOPED_TRACE(n);
  constexpr int kCount = 1536;
  const TestTensor a = TestTensor::from(mixed_numbers(kCount), {kCount}, dtype);
  const std::vector<double> values = a.values();

  const TestTensor copied = TestTensor::poisoned({kCount}, dtype);
  run_primitive({.header = "conversions.cuh",
                 .function = "repack_words",
                 .config = {.dtype = kernel_dtype, .n = n},
                 .params = {.a = a.view().data, .out = copied.view().data, .count = kCount},
                 .threads = 256,
                 .grid_x = kCount / n / 256 + 1});
  const std::vector<double> got = copied.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      ASSERT_TRUE(std::isnan(got[i])) << i;
    } else {
      ASSERT_EQ(got[i], values[i]) << i;
    }
  }

  const int results = kCount / (2 * n);
  const TestTensor largest = TestTensor::poisoned({results}, DType::f32);
  run_primitive({.header = "conversions.cuh",
                 .function = "largest_of_words",
                 .config = {.dtype = kernel_dtype, .n = n},
                 .params = {.a = a.view().data, .out = largest.view().data, .count = kCount},
                 .threads = 256,
                 .grid_x = results / 256 + 1});
  const std::vector<double> of_words = largest.values();
  for (std::size_t i = 0; i < of_words.size(); ++i) {
    double exact = 0;  // NaN loses
    for (std::size_t j = 0; j < static_cast<std::size_t>(2 * n); ++j) {
      exact = std::fmax(exact, std::fabs(values[i * static_cast<std::size_t>(2 * n) + j]));
    }
    ASSERT_EQ(of_words[i], exact) << i;
  }
}

TEST_F(Words, HoldTheirElements) {
  for (const int n : {1, 2, 4, 8}) {
    test_words(DType::bf16, kernels::DType::bf16, n);
    test_words(DType::f16, kernels::DType::f16, n);
  }
  for (const int n : {1, 2, 4}) test_words(DType::f32, kernels::DType::f32, n);
}

}  // namespace
}  // namespace quire::test
