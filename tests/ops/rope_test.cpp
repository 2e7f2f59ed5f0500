#include "quire/rope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/reference_rope.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::reference_frequencies;
using test::reference_rope;
using test::TestTensor;

// Angles are rounded to f32 twice: the frequency and its product with the position.
double tolerance(DType dtype, double largest_angle, double largest_value) {
  const double storing = dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  return largest_value * (1.01 * storing + 1e-6 + largest_angle * 0x1p-23);
}

void expect_close(const std::vector<double>& out, const std::vector<double>& ref, double bound) {
  ASSERT_EQ(out.size(), ref.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!(std::abs(out[i] - ref[i]) <= bound)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << ref[i] << " +- " << bound;
    }
  }
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (const double x : values) result = std::max(result, std::abs(x));
  return result * std::numbers::sqrt2;  // a turned pair may put all its length in one element
}

struct RopeCase {
  std::int64_t nnz, num_qo_heads, num_kv_heads, head_dim;
  RopeOptions options;
  std::int64_t before = 0, behind = 0;  // padding of q's and k's heads
};

std::string text_of(const RopeCase& c, DType dtype) {
  return std::string(name(dtype)) + " nnz " + std::to_string(c.nnz) + " heads " +
         std::to_string(c.num_qo_heads) + "/" + std::to_string(c.num_kv_heads) + " head_dim " +
         std::to_string(c.head_dim) + " rotary_dim " + std::to_string(c.options.rotary_dim) +
         (c.options.interleave ? " interleaved" : "") + (c.options.llama31 ? " llama31" : "") +
         " padding " + std::to_string(c.before) + " " + std::to_string(c.behind);
}

std::vector<RopeCase> rope_cases() {
  const Llama31Rope llama31{};
  std::vector<RopeCase> cases = {
      {3, 2, 1, 16, {}},
      {3, 2, 1, 16, {.interleave = true}},
      {1, 1, 1, 2, {.interleave = true}},
      {2, 3, 2, 10, {.rotary_dim = 6}},
      {2, 3, 2, 10, {.rotary_dim = 6, .interleave = true}, 1, 0},
      {2, 1, 3, 64, {.rotary_dim = 16, .rope_theta = 5e5f}, 8, 0},
      {2, 4, 1, 24, {.rotary_dim = 8, .interleave = true, .rope_scale = 4.f}, 0, 8},
      {4, 4, 2, 64, {.rope_scale = 8.f, .rope_theta = 5e5f, .llama31 = llama31}},
      {4, 1, 1, 64, {.rope_scale = 4.f, .yarn = YarnRope{}}},
      {3, 1, 1, 32, {.rope_scale = 16.f, .yarn = YarnRope{512.f, 16.f, 2.f, 1.25f}}},
      {3, 2, 1, 48, {.rotary_dim = 32, .interleave = true, .rope_scale = 4.f, .ntk = true}},
      {2, 2, 2, 80, {}, 4, 4},
      {1, 2, 0, 32, {}}};
  if (!test::is_emulated()) {
    const std::vector<RopeCase> large = {
        {129, 32, 8, 128, {.rope_scale = 8.f, .rope_theta = 5e5f, .llama31 = llama31}, 0, 64},
        {1000, 7, 1, 96, {.rotary_dim = 32, .interleave = true}},
        {65, 16, 4, 256, {.rope_theta = 1e6f}},
        {3, 2, 2, 1024, {.rotary_dim = 512}}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

std::vector<double> some_positions(std::int64_t nnz) {
  std::vector<double> positions = {5, 0, 1, 1023, 77, 4095};
  for (std::int64_t i = 6; i < nnz; ++i) positions.push_back((i * 2654435761u) % 4096);
  positions.resize(nnz);
  return positions;
}

class RopeTest : public testing::TestWithParam<DType> {};

TEST_P(RopeTest, MatchesReference) {
  const DType dtype = GetParam();
  for (const RopeCase& c : rope_cases()) {
    for (const DType pos_dtype : {DType::i32, DType::i64}) {
      SCOPED_TRACE(text_of(c, dtype) + " positions " + std::string(name(pos_dtype)));
      const test::Shape q_shape{c.nnz, c.num_qo_heads, c.head_dim};
      const test::Shape k_shape{c.nnz, c.num_kv_heads, c.head_dim};
      const auto make = [&](const test::Shape& shape, std::uint64_t seed) {
        return PaddedTensor(test::random_values(shape[0] * shape[1] * shape[2], seed), shape, dtype,
                            c.before, c.behind);
      };
      const PaddedTensor q = make(q_shape, 1), k = make(k_shape, 2);
      const PaddedTensor q_out({}, q_shape, dtype, c.behind, c.before);
      const PaddedTensor k_out({}, k_shape, dtype, c.behind, c.before);
      const std::vector<double> positions = some_positions(c.nnz);
      const TestTensor pos_ids = TestTensor::from(positions, {c.nnz}, pos_dtype);
      apply_rope_pos_ids(q, k, pos_ids, q_out, k_out, c.options);

      const double bound = tolerance(dtype, 4096, 1);
      const std::vector<double> q_in = q.values(), k_in = k.values();
      const std::vector<double> q_ref = reference_rope(q_in, q_shape, positions, c.options);
      const std::vector<double> k_ref = reference_rope(k_in, k_shape, positions, c.options);
      expect_close(q_out.values(), q_ref, bound * largest(q_in));
      expect_close(k_out.values(), k_ref, bound * largest(k_in));
      EXPECT_TRUE(q.unchanged() && k.unchanged());
      EXPECT_TRUE(q_out.padding_intact() && k_out.padding_intact());

      // In place: the same bits.
      apply_rope_pos_ids(q, k, pos_ids, q, k, c.options);
      EXPECT_EQ(q.values(), q_out.values());
      EXPECT_EQ(k.values(), k_out.values());
      EXPECT_TRUE(q.padding_intact() && k.padding_intact());
    }
  }
}

TEST_P(RopeTest, SlicesOfPackedQkv) {
  const DType dtype = GetParam();
  const TestTensor packed = TestTensor::random({2, 5, 16}, dtype, 3);  // 3 q, 1 k, 1 v head
  const std::vector<double> before = packed.values();
  const std::vector<double> positions = {9, 4};
  std::vector<double> ref = reference_rope(before, {2, 5, 16}, positions, {});
  for (std::size_t i = 0; i < ref.size(); ++i) {
    if (i / 16 % 5 == 4) ref[i] = before[i];
  }
  const TensorView q = packed.view().slice(1, 0, 3), k = packed.view().slice(1, 3, 4);
  apply_rope_pos_ids(q, k, TestTensor::ints({9, 4}), q, k);
  expect_close(packed.values(), ref, tolerance(dtype, 9, largest(before)));
}

INSTANTIATE_TEST_SUITE_P(DTypes, RopeTest, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& p) { return std::string(name(p.param)); });

// The documented accuracy: sine and cosine of f32(position) * f32(frequency), rounded to f32, are
// good to 2e-7 at any position; against exact angles that product's rounding comes on top.
TEST(Rope, AnglesOfLongContexts) {
  const RopeOptions options{.rope_theta = 5e5f};
  const std::vector<double> positions = {0,      1,       3,          100,      8191,     131071,
                                         131072, 999999,  1000000,    1048577,  16777217, 100000007,
                                         -1,     -131072, 2147483647, 12345678, 33333333, 65536};
  const auto nnz = static_cast<std::int64_t>(positions.size());
  const int dim = 64;
  std::vector<double> ones(nnz * dim);
  for (std::size_t i = 0; i < ones.size(); ++i) ones[i] = static_cast<int>(i) % dim < dim / 2;
  const TestTensor q = TestTensor::from(ones, {nnz, 1, dim}, DType::f32);
  const TestTensor k = TestTensor::poisoned({nnz, 0, dim}, DType::f32);
  apply_rope_pos_ids(q, k, TestTensor::from(positions, {nnz}, DType::i64), q, k, options);

  const std::vector<double> out = q.values();
  const std::vector<double> frequencies = reference_frequencies(dim, options);
  for (std::size_t token = 0; token < positions.size(); ++token) {
    for (int i = 0; i < dim / 2; ++i) {
      SCOPED_TRACE(std::to_string(positions[token]) + " pair " + std::to_string(i));
      const float angle = static_cast<float>(positions[token]) * static_cast<float>(frequencies[i]);
      const double cosine = out[token * dim + i], sine = out[token * dim + i + dim / 2];
      EXPECT_NEAR(cosine, std::cos(static_cast<double>(angle)), 2e-7);
      EXPECT_NEAR(sine, std::sin(static_cast<double>(angle)), 2e-7);
      const double exact = positions[token] * frequencies[i];
      const double bound = 2e-7 + std::abs(exact) * 0x1.8p-23;
      EXPECT_NEAR(cosine, std::cos(exact), bound);
      EXPECT_NEAR(sine, std::sin(exact), bound);
    }
  }
}

TEST(Rope, Llama31HasAllThreeRanges) {
  // Guards the reference above: with the values of Llama 3.1 all three branches are taken.
  const std::vector<double> plain = reference_frequencies(128, {.rope_theta = 5e5f});
  const std::vector<double> scaled =
      reference_frequencies(128, {.rope_scale = 8.f, .rope_theta = 5e5f, .llama31 = Llama31Rope{}});
  int kept = 0, divided = 0, between = 0;
  for (int i = 0; i < 64; ++i) {
    kept += scaled[i] == plain[i];
    divided += scaled[i] == plain[i] / 8;
    between += scaled[i] < plain[i] && scaled[i] > plain[i] / 8;
  }
  EXPECT_GT(kept, 20);
  EXPECT_GT(divided, 20);
  EXPECT_GT(between, 3);
  EXPECT_EQ(kept + divided + between, 64);
}

TEST(Rope, EmptyInputsDoNothing) {
  const TestTensor none = TestTensor::poisoned({0, 4, 16}, DType::bf16);
  apply_rope_pos_ids(none, none, TestTensor::ints({}), none, none);
  const TestTensor no_dims = TestTensor::poisoned({2, 4, 0}, DType::bf16);
  apply_rope_pos_ids(no_dims, no_dims, TestTensor::ints({1, 2}), no_dims, no_dims);
}

TEST(Rope, BadTensors) {
  const TestTensor q = TestTensor::random({2, 4, 8}, DType::bf16, 1);
  const TestTensor k = TestTensor::random({2, 2, 8}, DType::bf16, 2);
  const TestTensor pos = TestTensor::ints({0, 1});
  const TestTensor f16 = TestTensor::random({2, 2, 8}, DType::f16, 3);
  const TestTensor f32_positions = TestTensor::from({0, 1}, {2}, DType::f32);
  const std::vector<std::uint8_t> clean_q = q.raw(), clean_k = k.raw();
  TensorView elsewhere = k.view();
  elsewhere.device = test::other_device();
  TensorView positions_elsewhere = pos.view();
  positions_elsewhere.device = test::other_device();
  TensorView transposed = k.view();
  transposed.strides = {16, 1, 2};
  TensorView restrided = q.view();
  restrided.strides = {8, 16, 1};
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  using enum ErrorCode;
  const std::string op = "apply_rope_pos_ids: ";
  test::expect_errors({
      {[&] { apply_rope_pos_ids(pos, k, pos, q, k); }, invalid_argument,
       op + "q: got rank 1 (shape [2]), expected rank 3"},
      {[&] { apply_rope_pos_ids(q, f16, pos, q, f16); }, wrong_type,
       op + "k: got f16, expected bf16"},
      {[&] { apply_rope_pos_ids(q, transposed, pos, q, transposed); }, invalid_argument,
       op + "k: got strides [16, 1, 2], expected stride 1 in the last dimension"},
      {[&] { apply_rope_pos_ids(q, elsewhere, pos, q, elsewhere); }, invalid_argument,
       op + "k: got " + there + ", expected " + here + ", the device of q"},
      {[&] { apply_rope_pos_ids(q, k, pos, k, k); }, invalid_argument,
       op + "q_out: got shape [2, 2, 8], expected [2, 4, 8], the shape of q"},
      {[&] { apply_rope_pos_ids(q, k, pos, restrided, k); }, invalid_argument,
       op + "q_out: got " + to_string(restrided) +
           ", expected the strides of q, whose memory it is: " + to_string(q.view())},
      {[&] {
         const TensorView short_k = k.view().slice(0, 0, 1);
         apply_rope_pos_ids(q, short_k, pos, q, short_k);
       },
       invalid_argument,
       op + "k: got 1 in dimension 0 (shape [1, 2, 8]), expected 2 (tokens of q)"},
      {[&] {
         const TensorView narrow_k = k.view().slice(2, 0, 4);
         apply_rope_pos_ids(q, narrow_k, pos, q, narrow_k);
       },
       invalid_argument,
       op + "k: got 4 in dimension 2 (shape [2, 2, 4]), expected 8 (head_dim of q)"},
      {[&] { apply_rope_pos_ids(q, k, f32_positions, q, k); }, wrong_type,
       op + "pos_ids: got f32, expected i32 or i64"},
      {[&] { apply_rope_pos_ids(q, k, pos.view().slice(0, 0, 1), q, k); }, invalid_argument,
       op + "pos_ids: got 1 in dimension 0 (shape [1]), expected 2 (tokens of q)"},
      {[&] { apply_rope_pos_ids(q, k, positions_elsewhere, q, k); }, invalid_argument,
       op + "pos_ids: got " + there + ", expected " + here + ", the device of q"},
  });
  EXPECT_EQ(q.raw(), clean_q);
  EXPECT_EQ(k.raw(), clean_k);
}

TEST(Rope, BadOptions) {
  const TestTensor q = TestTensor::random({2, 4, 8}, DType::bf16, 1);
  const TestTensor k = TestTensor::random({2, 2, 8}, DType::bf16, 2);
  const TestTensor wide = TestTensor::random({2, 1, 1024}, DType::bf16, 4);
  const TestTensor pos = TestTensor::ints({0, 1});
  const std::vector<std::uint8_t> clean_q = q.raw(), clean_k = k.raw();
  const float nan = std::nanf("");
  const auto with = [&](const RopeOptions& options) {
    return [&, options] { apply_rope_pos_ids(q, k, pos, q, k, options); };
  };
  const auto llama = [&](float low, float high, float length) {
    return with({.llama31 = Llama31Rope{low, high, length}});
  };
  using enum ErrorCode;
  const std::string op = "apply_rope_pos_ids: ";
  test::expect_errors({
      {with({.rotary_dim = 3}), invalid_argument,
       op + "rotary_dim: got 3, expected an even number, 0 to head_dim (8)"},
      {with({.rotary_dim = 10}), invalid_argument,
       op + "rotary_dim: got 10, expected an even number, 0 to head_dim (8)"},
      {with({.rotary_dim = -2}), invalid_argument,
       op + "rotary_dim: got -2, expected an even number, 0 to head_dim (8)"},
      {[&] { apply_rope_pos_ids(wide, wide, pos, wide, wide); }, not_implemented,
       op + "rotary_dim: got 1024, expected at most 512"},
      {with({.rope_scale = 0}), invalid_argument,
       op + "rope_scale: got 0, expected a finite number above 0"},
      {with({.rope_scale = nan}), invalid_argument,
       op + "rope_scale: got nan, expected a finite number above 0"},
      {with({.rope_theta = -1}), invalid_argument,
       op + "rope_theta: got -1, expected a finite number above 0"},
      {llama(nan, 4, 8192), invalid_argument,
       op + "low_freq_factor: got nan, expected a finite number above 0"},
      {llama(1, -4, 8192), invalid_argument,
       op + "high_freq_factor: got -4, expected a finite number above 0"},
      {llama(4, 4, 8192), invalid_argument,
       op + "high_freq_factor: got 4, expected more than low_freq_factor (4)"},
      {llama(1, 4, 0), invalid_argument,
       op + "old_context_len: got 0, expected a finite number above 0"},
  });
  EXPECT_EQ(q.raw(), clean_q);
  EXPECT_EQ(k.raw(), clean_k);
}

}  // namespace
}  // namespace quire
