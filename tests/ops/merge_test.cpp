// Merging attention states against the definition in double, and its exact identities.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "quire/error.h"
#include "quire/merge.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct States {
  std::vector<double> v, s;
};

// v [n, states, heads, dim], s [n, states, heads].
States reference(const std::vector<double>& v, const std::vector<double>& s, const Shape& shape,
                 double base) {
  const auto n = shape[0], states = shape[1], heads = shape[2], dim = shape[3];
  States merged{std::vector<double>(static_cast<std::size_t>(n * heads * dim)),
                std::vector<double>(static_cast<std::size_t>(n * heads), -kInfinity)};
  for (std::int64_t row = 0; row < n * heads; ++row) {
    const auto at = [&](std::int64_t i) {
      return static_cast<std::size_t>((row / heads * states + i) * heads + row % heads);
    };
    double largest = -kInfinity, sum = 0;
    for (std::int64_t i = 0; i < states; ++i) largest = std::max(largest, s[at(i)]);
    if (largest == -kInfinity) continue;
    for (std::int64_t i = 0; i < states; ++i) sum += std::pow(base, s[at(i)] - largest);
    for (std::int64_t i = 0; i < states; ++i) {
      const double weight = std::pow(base, s[at(i)] - largest) / sum;
      for (std::int64_t x = 0; x < dim && weight > 0; ++x) {
        merged.v[static_cast<std::size_t>(row * dim + x)] +=
            weight * v[at(i) * static_cast<std::size_t>(dim) + static_cast<std::size_t>(x)];
      }
    }
    merged.s[static_cast<std::size_t>(row)] = largest + std::log(sum) / std::log(base);
  }
  return merged;
}

double tolerance(DType dtype) {
  return dtype == DType::f32 ? 1e-5 : dtype == DType::f16 ? 5e-4 : 3e-3;
}

// Random, with some empty states that hold NaN.
States random_states(const Shape& shape, DType dtype, std::uint64_t seed) {
  States states{
      TestTensor::random(shape, dtype, seed, 1, kCpu).values(),
      TestTensor::random({shape[0], shape[1], shape[2]}, DType::f32, seed + 1, 5, kCpu).values()};
  const auto dim = static_cast<std::size_t>(shape[3]);
  for (std::size_t i = 0; i < states.s.size(); i += 5) {
    states.s[i] = -kInfinity;
    for (std::size_t x = 0; x < dim; ++x) states.v[i * dim + x] = std::nan("");
  }
  return states;
}

TEST(MergeStates, AgreeWithReference) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t num_states : {1, 2, 5, 40}) {
      for (const std::int64_t dim : {128, 20, 7}) {
        for (const LseBase base : {LseBase::two, LseBase::e}) {
          const Shape shape{is_emulated() ? 2 : 9, num_states, 3, dim};
          const States in = random_states(shape, dtype, 7);
          const TestTensor v = TestTensor::from(in.v, shape, dtype);
          const TestTensor s = TestTensor::from(in.s, {shape[0], shape[1], shape[2]}, DType::f32);
          const TestTensor v_out = TestTensor::poisoned({shape[0], 3, dim}, dtype);
          const TestTensor s_out = TestTensor::poisoned({shape[0], 3}, DType::f32);
          merge_states(v, s, v_out, s_out, base);
          const States want =
              reference(v.values(), s.values(), shape, base == LseBase::e ? std::exp(1.0) : 2.0);
          EXPECT_LE(relative_error(v_out.values(), want.v), tolerance(dtype));
          EXPECT_LE(relative_error(s_out.values(), want.s), 1e-5);
          EXPECT_TRUE(v_out.guards_intact() && s_out.guards_intact());
        }
      }
    }
  }
}

TEST(MergeState, DtypesMayDiffer) {
  const DType all[] = {DType::f32, DType::f16, DType::bf16};
  for (const DType a : all) {
    for (const DType b : all) {
      for (const DType out : {DType::f32, DType::bf16}) {
        for (const std::int64_t dim : {24, 7}) {
          const TestTensor va = TestTensor::random({3, 2, dim}, a, 1);
          const TestTensor vb = TestTensor::random({3, 2, dim}, b, 2);
          const TestTensor sa = TestTensor::random({3, 2}, DType::f32, 3, 2);
          const TestTensor sb = TestTensor::random({3, 2}, DType::f32, 4, 2);
          const TestTensor v = TestTensor::poisoned({3, 2, dim}, out);
          const TestTensor s = TestTensor::poisoned({3, 2}, DType::f32);
          merge_state(va, sa, vb, sb, v, s);
          const auto stack = [](const TestTensor& x, const TestTensor& y, std::int64_t row) {
            std::vector<double> both;
            const std::vector<double> xs = x.values(), ys = y.values();
            for (std::int64_t n = 0; n < 3; ++n) {
              both.insert(both.end(), xs.begin() + n * row, xs.begin() + (n + 1) * row);
              both.insert(both.end(), ys.begin() + n * row, ys.begin() + (n + 1) * row);
            }
            return both;
          };
          const States ref =
              reference(stack(va, vb, 2 * dim), stack(sa, sb, 2), {3, 2, 2, dim}, std::exp(1.0));
          EXPECT_LT(relative_error(v.values(), ref.v), tolerance(out));
          EXPECT_LT(relative_error(s.values(), ref.s), 1e-5);
          EXPECT_TRUE(v.guards_intact() && s.guards_intact());
        }
      }
    }
  }
}

TEST(MergeStates, WithoutStatesAreTheIdentity) {
  const TestTensor v = TestTensor::poisoned({2, 0, 3, 16}, DType::f32);
  const TestTensor s = TestTensor::poisoned({2, 0, 3}, DType::f32);
  const TestTensor v_out = TestTensor::poisoned({2, 3, 16}, DType::f32);
  const TestTensor s_out = TestTensor::poisoned({2, 3}, DType::f32);
  merge_states(v, s, v_out, s_out);
  EXPECT_EQ(v_out.values(), std::vector<double>(96, 0.0));
  EXPECT_EQ(s_out.values(), std::vector<double>(6, -kInfinity));
}

// Two states of one head and 16 columns, merged.
States merge_two(double v_a, double s_a, double v_b, double s_b, LseBase base) {
  const Shape shape{1, 1, 16};
  const TestTensor va = TestTensor::from(std::vector<double>(16, v_a), shape, DType::bf16);
  const TestTensor vb = TestTensor::from(std::vector<double>(16, v_b), shape, DType::bf16);
  const TestTensor sa = TestTensor::from({s_a}, {1, 1}, DType::f32);
  const TestTensor sb = TestTensor::from({s_b}, {1, 1}, DType::f32);
  const TestTensor v_out = TestTensor::poisoned(shape, DType::bf16);
  const TestTensor s_out = TestTensor::poisoned({1, 1}, DType::f32);
  merge_state(va, sa, vb, sb, v_out, s_out, base);
  return {v_out.values(), s_out.values()};
}

TEST(MergeState, EmptyStateIsAnExactIdentity) {
  for (const LseBase base : {LseBase::two, LseBase::e}) {
    const float s = 3.14159274f;
    for (const double other : {0.0, 5.0, std::nan("")}) {
      const States left = merge_two(1.25, s, other, -kInfinity, base);
      const States right = merge_two(other, -kInfinity, 1.25, s, base);
      EXPECT_EQ(left.v, std::vector<double>(16, 1.25));
      EXPECT_EQ(right.v, left.v);
      EXPECT_EQ(left.s[0], double{s});
      EXPECT_EQ(right.s[0], double{s});
    }
    const States none = merge_two(std::nan(""), -kInfinity, 2, -kInfinity, base);
    EXPECT_EQ(none.v, std::vector<double>(16, 0.0));
    EXPECT_EQ(none.s[0], -kInfinity);
  }
}

TEST(MergeState, VeryNegativeLseIsOrdinary) {
  const States merged = merge_two(1, -1e6, 3, -1e6, LseBase::two);
  EXPECT_EQ(merged.v, std::vector<double>(16, 2.0));
  EXPECT_EQ(merged.s[0], -1e6 + 1);
  EXPECT_EQ(merge_two(1, -3e38, 3, 0, LseBase::e).v, std::vector<double>(16, 3.0));
}

TEST(MergeState, OutputMayAliasEitherInputAndViewsMayBeStrided) {
  const Shape shape{5, 4, 32};
  const Shape wide{5, 4, 40};
  for (const bool alias_a : {true, false}) {
    const TestTensor a = TestTensor::random(wide, DType::f32, 1);
    const TestTensor b = TestTensor::random(wide, DType::f32, 2);
    const TestTensor sa = TestTensor::random({5, 4}, DType::f32, 3);
    const TestTensor sb = TestTensor::random({5, 4}, DType::f32, 4);
    const TensorView va = a.view().slice(2, 0, 32), vb = b.view().slice(2, 8, 40);
    States both;
    const std::vector<double> av = a.values(), bv = b.values(), as = sa.values(), bs = sb.values();
    for (std::size_t n = 0; n < 5; ++n) {
      for (std::size_t x = 0; x < 2 * 4 * 32; ++x) {
        const std::size_t state = x / 128, head = x / 32 % 4, column = x % 32;
        both.v.push_back(state == 0 ? av[(n * 4 + head) * 40 + column]
                                    : bv[(n * 4 + head) * 40 + column + 8]);
      }
      for (std::size_t x = 0; x < 8; ++x) both.s.push_back((x < 4 ? as : bs)[n * 4 + x % 4]);
    }
    const States want = reference(both.v, both.s, {5, 2, 4, 32}, std::exp(1.0));
    merge_state(va, sa, vb, sb, alias_a ? va : vb, alias_a ? sa : sb);
    const std::vector<double> merged = (alias_a ? a : b).values();
    std::vector<double> out;
    for (std::size_t i = 0; i < merged.size(); ++i) {
      const std::size_t column = i % 40, first = alias_a ? 0 : 8;
      if (column >= first && column < first + 32) out.push_back(merged[i]);
    }
    EXPECT_LE(relative_error(out, want.v), 1e-6);
    EXPECT_LE(relative_error((alias_a ? sa : sb).values(), want.s), 1e-6);
  }
}

TEST(MergeStateInPlace, MaskedRowsStay) {
  const Shape shape{4, 2, 16};
  const TestTensor v = TestTensor::random(shape, DType::f16, 1);
  const TestTensor s = TestTensor::random({4, 2}, DType::f32, 2);
  const TestTensor other = TestTensor::random(shape, DType::f16, 3);
  const TestTensor s_other = TestTensor::random({4, 2}, DType::f32, 4);
  const std::vector<double> before = v.values(), s_before = s.values();
  const TestTensor v_all = TestTensor::from(before, shape, DType::f16);
  const TestTensor s_all = TestTensor::from(s_before, {4, 2}, DType::f32);
  merge_state_in_place(v, s, other, s_other, TestTensor::bytes({1, 0, 2, 0}).view());
  merge_state_in_place(v_all, s_all, other, s_other);
  const std::vector<double> after = v.values(), all = v_all.values();
  for (std::size_t i = 0; i < after.size(); ++i) {
    const bool merged = i / 32 % 2 == 0;
    EXPECT_EQ(after[i], merged ? all[i] : before[i]) << i;
    EXPECT_NE(all[i], before[i]) << i;
  }
  const std::vector<double> s_after = s.values(), s_merged = s_all.values();
  for (std::size_t i = 0; i < s_after.size(); ++i) {
    EXPECT_EQ(s_after[i], i / 2 % 2 == 0 ? s_merged[i] : s_before[i]) << i;
  }
}

TEST(MergeState, BadInputIsNamedAndChangesNothing) {
  const TestTensor v = TestTensor::random({2, 3, 16}, DType::f32, 1);
  const TestTensor s = TestTensor::random({2, 3}, DType::f32, 2);
  const TestTensor v_out = TestTensor::poisoned({2, 3, 16}, DType::f32);
  const TestTensor s_out = TestTensor::poisoned({2, 3}, DType::f32);
  const TestTensor ints = TestTensor::poisoned({2, 3, 16}, DType::i32);
  const TestTensor half = TestTensor::random({2, 3, 16}, DType::f16, 1);
  TensorView same_memory = half.view();
  same_memory.dtype = DType::bf16;
  const TestTensor short_s = TestTensor::random({2, 2}, DType::f32, 2);
  const TestTensor flat = TestTensor::random({6, 16}, DType::f32, 2);
  TensorView elsewhere = v;
  elsewhere.device = other_device();
  TensorView every_other = v.view();
  every_other.shape[2] = 8;
  every_other.strides[2] = 2;
  struct Row {
    std::function<void()> call;
    ErrorCode code;
    std::string text;
  };
  const std::vector<Row> rows{
      {[&] { merge_state(flat, s, v, s, v_out, s_out); }, ErrorCode::invalid_argument,
       "merge_state: v_a: got rank 2 (shape [6, 16]), expected rank 3"},
      {[&] { merge_state(v, s, ints, s, v_out, s_out); }, ErrorCode::wrong_type,
       "merge_state: v_b: got i32, expected f32 or f16 or bf16"},
      {[&] { merge_state(v, s, half, s, same_memory, s_out); }, ErrorCode::wrong_type,
       "merge_state: v_out: got bf16, expected f16"},
      {[&] { merge_state(v, short_s, v, s, v_out, s_out); }, ErrorCode::invalid_argument,
       "merge_state: s_a: got 2 in dimension 1 (shape [2, 2]), expected 3 (the same dimension of "
       "v_a)"},
      {[&] { merge_state(v, s, elsewhere, s, v_out, s_out); }, ErrorCode::invalid_argument,
       "merge_state: v_b: got " + to_string(other_device()) + ", expected " +
           to_string(test_device()) + ", the device of v_a"},
      {[&] { merge_state(every_other, s, v, s, v_out, s_out); }, ErrorCode::invalid_argument,
       "merge_state: v_a: got strides [48, 16, 2], expected stride 1 in the last dimension"},
      {[&] { merge_state_in_place(v_out, s_out, v, s, s.view()); }, ErrorCode::invalid_argument,
       "merge_state_in_place: mask: got rank 2 (shape [2, 3]), expected rank 1"},
      {[&] { merge_states(v, s, v_out, s_out); }, ErrorCode::invalid_argument,
       "merge_states: v: got rank 3 (shape [2, 3, 16]), expected rank 4"},
  };
  for (const Row& row : rows) {
    try {
      row.call();
      ADD_FAILURE() << "no error, expected: " << row.text;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), row.text);
      EXPECT_EQ(error.code(), row.code) << row.text;
    }
  }
  EXPECT_TRUE(std::isnan(v_out.values()[0]));
}

}  // namespace
}  // namespace quire::test
