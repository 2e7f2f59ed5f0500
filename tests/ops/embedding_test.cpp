#include "quire/embedding.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

// Rows differ from each other, also after rounding to 8 bits.
std::vector<double> small_integers(std::size_t n) {
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<double>((i * 7 + i / 13) % 15);
  return values;
}

std::vector<double> reference_rows(const std::vector<double>& table, std::size_t dim,
                                   const std::vector<std::int32_t>& indices) {
  std::vector<double> out;
  for (const std::int32_t index : indices) {
    const auto begin = table.begin() + static_cast<std::ptrdiff_t>(index * dim);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(dim));
  }
  return out;
}

class GatherRowsTest : public testing::TestWithParam<DType> {};

TEST_P(GatherRowsTest, MatchesReference) {
  const DType dtype = GetParam();
  std::vector<std::int64_t> dims = {1, 3, 16, 33, 64};
  if (!test::is_emulated()) dims.insert(dims.end(), {2048, 4097});
  const std::vector<std::int32_t> indices = {4, 0, 6, 4, 4, 1, 5};
  const auto n = static_cast<std::int64_t>(indices.size());
  for (const std::int64_t dim : dims) {
    for (const std::int64_t padding : {0, 1, 4, 16}) {
      SCOPED_TRACE("dim " + std::to_string(dim) + " padding " + std::to_string(padding));
      const PaddedTensor table(small_integers(7 * dim), {7, dim}, dtype, padding, padding);
      const PaddedTensor out({}, {n, dim}, dtype, 0, padding);
      gather_rows(table, TestTensor::ints(indices), out);
      EXPECT_EQ(out.values(), reference_rows(table.values(), dim, indices));
      EXPECT_TRUE(out.padding_intact());
      EXPECT_TRUE(table.unchanged());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GatherRowsTest,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::f8e4m3,
                                         DType::f8e5m2, DType::i32, DType::u8, DType::boolean),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(GatherRows, KeepsBitsOfNan) {
  const TestTensor table = TestTensor::poisoned({3, 5}, DType::bf16);  // all bits set
  const TestTensor out = TestTensor::from(std::vector<double>(5, 1), {1, 5}, DType::bf16);
  gather_rows(table, TestTensor::ints({2}), out);
  EXPECT_EQ(out.raw(), std::vector<std::uint8_t>(10, 0xff));
}

TEST(GatherRows, StridedIndicesAndRepeatedTable) {
  const TestTensor table = TestTensor::from(small_integers(40), {5, 8}, DType::f16);
  const TestTensor all = TestTensor::ints({3, -7, 1, -7, 0, -7});
  TensorView every_other = all.view();
  every_other.shape = {3};
  every_other.strides = {2};
  const TestTensor out = TestTensor::poisoned({3, 8}, DType::f16);
  gather_rows(table, every_other, out);
  EXPECT_EQ(out.values(), reference_rows(table.values(), 8, {3, 1, 0}));
  TensorView one_row = table.view();
  one_row.strides = {0, 1};
  gather_rows(one_row, every_other, out);
  EXPECT_EQ(out.values(), reference_rows(table.values(), 8, {0, 0, 0}));
}

TEST(GatherRows, IndexOutsideTheTable) {
  const TestTensor table = TestTensor::from(small_integers(12), {3, 4}, DType::f32);
  const TestTensor out = TestTensor::poisoned({4, 4}, DType::f32);
  const TestTensor indices = TestTensor::ints({1, -1, 3, 2147483647});
  if (test::test_device().is_cpu()) {
    const std::vector<std::uint8_t> clean = out.raw();
    test::expect_errors({{[&] { gather_rows(table, indices, out); }, ErrorCode::invalid_argument,
                          "gather_rows: indices: got -1 at 1, expected 0 to 2, a row of table"}});
    EXPECT_EQ(out.raw(), clean);
  } else {
    gather_rows(table, indices, out);
    std::vector<double> ref = reference_rows(table.values(), 4, {1});
    ref.resize(16);
    EXPECT_EQ(out.values(), ref);
  }
  EXPECT_TRUE(out.guards_intact());
}

TEST(GatherRows, EmptyInputsDoNothing) {
  const TestTensor table = TestTensor::poisoned({3, 4}, DType::f32);
  gather_rows(table, TestTensor::ints({}), TestTensor::poisoned({0, 4}, DType::f32));
  gather_rows(TestTensor::poisoned({3, 0}, DType::f32), TestTensor::ints({1, 2}),
              TestTensor::poisoned({2, 0}, DType::f32));
}

TEST(GatherRows, BadInput) {
  const TestTensor table = TestTensor::from(small_integers(12), {3, 4}, DType::f32);
  const TestTensor indices = TestTensor::ints({0, 1});
  const TestTensor out = TestTensor::poisoned({2, 4}, DType::f32);
  const TestTensor wrong_out = TestTensor::poisoned({2, 4}, DType::f16);
  const TestTensor i64_table = TestTensor::poisoned({3, 4}, DType::i64);
  const TestTensor f32_indices = TestTensor::from({0, 1}, {2}, DType::f32);
  const std::vector<std::uint8_t> clean = out.raw();
  TensorView column = table.view();
  column.strides = {1, 3};
  TensorView elsewhere = indices.view();
  elsewhere.device = test::other_device();
  TensorView repeated = out.view();
  repeated.strides = {0, 1};
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  using enum ErrorCode;
  test::expect_errors({
      {[&] { gather_rows(indices, indices, out); }, invalid_argument,
       "gather_rows: table: got rank 1 (shape [2]), expected rank 2"},
      {[&] { gather_rows(i64_table, indices, out); }, wrong_type,
       "gather_rows: table: got i64, expected f32 or f16 or bf16 or f8e4m3 or f8e5m2 or i32 or u8 "
       "or boolean"},
      {[&] { gather_rows(column, indices, out); }, invalid_argument,
       "gather_rows: table: got strides [1, 3], expected stride 1 in the last dimension"},
      {[&] { gather_rows(table, table, out); }, invalid_argument,
       "gather_rows: indices: got rank 2 (shape [3, 4]), expected rank 1"},
      {[&] { gather_rows(table, f32_indices, out); }, wrong_type,
       "gather_rows: indices: got f32, expected i32"},
      {[&] { gather_rows(table, elsewhere, out); }, invalid_argument,
       "gather_rows: indices: got " + there + ", expected " + here + ", the device of table"},
      {[&] { gather_rows(table, indices, wrong_out); }, wrong_type,
       "gather_rows: out: got f16, expected f32"},
      {[&] { gather_rows(table, indices, out.view().slice(0, 0, 1)); }, invalid_argument,
       "gather_rows: out: got 1 in dimension 0 (shape [1, 4]), expected 2 (number of indices)"},
      {[&] { gather_rows(table, indices, out.view().slice(1, 0, 3)); }, invalid_argument,
       "gather_rows: out: got 3 in dimension 1 (shape [2, 3]), expected 4 (dim of table)"},
      {[&] { gather_rows(table, indices, repeated); }, invalid_argument,
       "gather_rows: out: got strides [0, 1] for shape [2, 4], expected an output whose elements "
       "do not overlap"},
  });
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
