#include <cstdint>
#include <cstring>
#include <random>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Products : public PrimitiveTest {};

// PTX ISA, ldmatrix: register i of lane l holds row l / 4, columns 2 (l % 4) and + 1 of matrix i.
void test_load_matrices(bool transposed) {
  std::vector<std::uint16_t> m(256);
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = static_cast<std::uint16_t>(i * 257 + 3);
  const TestTensor a = TestTensor::poisoned({256}, DType::bf16);
  copy(a.view().data, a.view().device, m.data(), kCpu, 512);
  const TestTensor out = TestTensor::poisoned({4, 32}, DType::i32);
  run_primitive({.header = "products.cuh",
                 .function = "load_matrices",
                 .config = {.n = transposed ? 1 : 0},
                 .params = {.a = a.view().data, .out = out.view().data},
                 .smem_bytes = 512});
  const std::vector<double> got = out.values();
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const std::size_t row = lane / 4, column = 2 * (lane % 4);
      const auto element = [&](std::size_t r, std::size_t c) {
        return transposed ? m[64 * i + 8 * c + r] : m[64 * i + 8 * r + c];
      };
      const std::uint32_t expected =
          element(row, column) | static_cast<std::uint32_t>(element(row, column + 1)) << 16;
      ASSERT_EQ(got[32 * i + lane], static_cast<std::int32_t>(expected)) << i << " " << lane;
    }
  }
}

TEST_F(Products, LoadMatrices) { test_load_matrices(false); }
TEST_F(Products, LoadMatricesTransposed) { test_load_matrices(true); }

TEST_F(Products, TransposedMatrix) {
  std::vector<std::uint16_t> m(64);
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = static_cast<std::uint16_t>(i * 1021 + 7);
  const TestTensor a = TestTensor::poisoned({64}, DType::bf16);
  copy(a.view().data, a.view().device, m.data(), kCpu, 128);
  const TestTensor out = TestTensor::poisoned({64}, DType::bf16);
  run_primitive({.header = "products.cuh",
                 .function = "transpose",
                 .params = {.a = a.view().data, .out = out.view().data}});
  const std::vector<std::uint8_t> got = out.raw();
  for (std::size_t row = 0; row < 8; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      std::uint16_t x;
      std::memcpy(&x, &got[2 * (8 * row + column)], 2);
      ASSERT_EQ(x, m[8 * column + row]) << row << " " << column;
    }
  }
}

// Small whole numbers: every sum is exact, so that one wrong element shows.
std::vector<double> whole_numbers(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<double> values(count);
  for (double& x : values) x = static_cast<int>(engine() % 33) - 16;
  return values;
}

void test_multiply(DType dtype, kernels::DType kernel_dtype) {
  const std::vector<double> a = whole_numbers(256, 1), b = whole_numbers(128, 2);
  const std::vector<double> d = whole_numbers(128, 3);
  const TestTensor ta = TestTensor::from(a, {16, 16}, dtype);
  const TestTensor tb = TestTensor::from(b, {8, 16}, dtype);
  const TestTensor out = TestTensor::from(d, {16, 8}, DType::f32);
  run_primitive({.header = "products.cuh",
                 .function = "multiply",
                 .config = {.dtype = kernel_dtype, .n = 3},
                 .params = {.a = ta.view().data, .b = tb.view().data, .out = out.view().data}});
  const std::vector<double> got = out.values();
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      double sum = 0;
      for (std::size_t k = 0; k < 16; ++k) sum += a[16 * row + k] * b[16 * column + k];
      ASSERT_EQ(got[8 * row + column], d[8 * row + column] + 3 * sum) << row << " " << column;
    }
  }
}

TEST_F(Products, Bf16) { test_multiply(DType::bf16, kernels::DType::bf16); }
TEST_F(Products, F16) { test_multiply(DType::f16, kernels::DType::f16); }

}  // namespace
}  // namespace quire::test
