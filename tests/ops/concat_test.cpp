#include "quire/concat.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

void expect_concat(std::int64_t heads, std::int64_t nope, std::int64_t rope, DType dtype,
                   std::int64_t padding, bool flat) {
  const PaddedTensor k_nope(test::random_values(3 * heads * nope, 1), {3, heads, nope}, dtype,
                            padding, 0);
  const TestTensor k_rope = TestTensor::random({3, 1, rope}, dtype, 2);
  const PaddedTensor k({}, {3, heads, nope + rope}, dtype, 0, padding);
  TensorView shared = k_rope.view();
  if (flat) {
    shared.rank = 2;
    shared.shape[1] = rope;
    shared.strides[1] = 1;
  }
  concat_mla_k(k_nope, shared, k);
  const std::vector<double> left = k_nope.values(), right = k_rope.values();
  std::vector<double> ref;
  for (std::int64_t row = 0; row < 3 * heads; ++row) {
    for (std::int64_t d = 0; d < nope; ++d) ref.push_back(left[row * nope + d]);
    for (std::int64_t d = 0; d < rope; ++d) ref.push_back(right[row / heads * rope + d]);
  }
  EXPECT_EQ(k.values(), ref);
  EXPECT_TRUE(k.padding_intact() && k_nope.unchanged());
}

TEST(Concat, MlaKeys) {
  expect_concat(4, 16, 8, DType::bf16, 0, false);
  expect_concat(4, 16, 8, DType::f8e4m3, 16, true);
  expect_concat(3, 5, 3, DType::f16, 1, false);
  expect_concat(1, 8, 8, DType::f32, 0, true);
  expect_concat(2, 0, 8, DType::bf16, 0, false);
  if (!test::is_emulated()) expect_concat(128, 128, 64, DType::bf16, 64, false);
}

TEST(Concat, BadInput) {
  const TestTensor k_nope = TestTensor::random({2, 4, 8}, DType::bf16, 1);
  const TestTensor k_rope = TestTensor::random({2, 1, 4}, DType::bf16, 2);
  const TestTensor f16 = TestTensor::random({2, 1, 4}, DType::f16, 3);
  const TestTensor k = TestTensor::poisoned({2, 4, 12}, DType::bf16);
  const std::vector<std::uint8_t> clean = k.raw();
  using enum ErrorCode;
  test::expect_errors(
      {{[&] { concat_mla_k(k_nope, k_nope, k); }, invalid_argument,
        "concat_mla_k: k_rope: got 4 in dimension 1 (shape [2, 4, 8]), expected 1 (one head that "
        "all share)"},
       {[&] { concat_mla_k(k_nope, f16, k); }, wrong_type,
        "concat_mla_k: k_rope: got f16, expected bf16"},
       {[&] { concat_mla_k(k_nope, k_rope, k_nope); }, invalid_argument,
        "concat_mla_k: k: got 8 in dimension 2 (shape [2, 4, 8]), expected 12 (nope_dim + "
        "rope_dim)"}});
  EXPECT_EQ(k.raw(), clean);
}

}  // namespace
}  // namespace quire
