#include <cstdint>
#include <random>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class HopperProducts : public HopperTest {};

constexpr std::size_t kRows = 64, kRowBytes = 256;

// Small whole numbers: every sum is exact, so that one wrong element shows.
std::vector<double> whole_numbers(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<double> values(count);
  for (double& x : values) x = static_cast<int>(engine() % 17) - 8;
  return values;
}

enum Mode { kSharedA = 0, kRegisterA = 1, kTransposedB = 2 };

void test_multiply(DType dtype, kernels::DType kernel_dtype, int n, Mode mode) {
  SCOPED_TRACE(std::string(name(dtype)) + ", n " + std::to_string(n) + ", mode " +
               std::to_string(mode));
  const auto columns = static_cast<std::size_t>(n);
  const std::size_t depth = dtype == DType::f8e4m3 ? kRowBytes : kRowBytes / 2;
  const std::vector<double> a = whole_numbers(kRows * depth, 1);
  const std::vector<double> b = whole_numbers(columns * depth, 2);
  const std::vector<double> d = whole_numbers(kRows * columns, 3);
  const auto count = [](std::size_t x) { return static_cast<std::int64_t>(x); };
  const TestTensor ta = TestTensor::from(a, {count(kRows * depth)}, dtype);
  const TestTensor tb = TestTensor::from(b, {count(columns * depth)}, dtype);
  const TestTensor out = TestTensor::from(d, {count(kRows), n}, DType::f32);
  run_primitive({.header = "warpgroup_products.cuh",
                 .function = "multiply_warpgroup",
                 .config = {.dtype = kernel_dtype, .n = n, .mode = mode},
                 .params = {.a = ta.view().data, .b = tb.view().data, .out = out.view().data},
                 .threads = 128,
                 .smem_bytes = (kRows + columns) * kRowBytes});
  const std::vector<double> got = out.values();
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      double sum = d[columns * row + column];
      for (std::size_t k = 0; k < depth; ++k) {
        sum += a[depth * row + k] *
               (mode == kTransposedB ? b[columns * k + column] : b[depth * column + k]);
      }
      ASSERT_EQ(got[columns * row + column], sum) << row << " " << column;
    }
  }
  EXPECT_TRUE(out.guards_intact());
}

TEST_F(HopperProducts, Bf16) {
  for (const int n : {16, 80, 128}) {
    test_multiply(DType::bf16, kernels::DType::bf16, n, kSharedA);
    test_multiply(DType::bf16, kernels::DType::bf16, n, kRegisterA);
  }
}
TEST_F(HopperProducts, F16) {
  for (const Mode mode : {kSharedA, kRegisterA, kTransposedB}) {
    test_multiply(DType::f16, kernels::DType::f16, 64, mode);
  }
}
TEST_F(HopperProducts, TransposedB) {
  for (const int n : {64, 128}) {
    test_multiply(DType::bf16, kernels::DType::bf16, n, kTransposedB);
  }
}
TEST_F(HopperProducts, F8) {
  for (const Mode mode : {kSharedA, kRegisterA}) {
    test_multiply(DType::f8e4m3, kernels::DType::f8e4m3, 32, mode);
  }
}

TEST_F(HopperProducts, StoreMatrices) {
  std::vector<std::int32_t> r(128);
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = static_cast<std::int32_t>(i * 0x10205 + 77);
  const TestTensor a = TestTensor::ints(r);
  const TestTensor out = TestTensor::poisoned({512}, DType::u8);
  run_primitive({.header = "warpgroup_products.cuh",
                 .function = "store_matrices",
                 .params = {.a = a.view().data, .out = out.view().data},
                 .smem_bytes = 512});
  const std::vector<std::uint8_t> got = out.raw();
  for (std::size_t matrix = 0; matrix < 4; ++matrix) {
    for (std::size_t row = 0; row < 8; ++row) {
      for (std::size_t column = 0; column < 8; ++column) {
        // Register `matrix` of lane 4 row + column / 2 has columns 2 t and 2 t + 1.
        const auto word = static_cast<std::uint32_t>(r[32 * matrix + 4 * row + column / 2]);
        const std::size_t at = 2 * (64 * matrix + 8 * row + column);
        ASSERT_EQ(got[at] | got[at + 1] << 8, word >> (16 * (column % 2)) & 0xffff)
            << matrix << " " << row << " " << column;
      }
    }
  }
}

}  // namespace
}  // namespace quire::test
