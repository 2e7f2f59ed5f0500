// renorm_probs and top_k_mask_logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "quire/sampling.h"
#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/reference_sampling.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::ReferenceFilter;
using test::TestTensor;

const double kNan = std::nan("");
const double kInf = INFINITY;
constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16};

std::vector<double> random_probs(int vocab, int num_rows, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> result;
  for (int i = 0; i < vocab * num_rows; ++i) {
    // Powers of two: every dtype has them, and there are ties.
    result.push_back(std::ldexp(1.0, static_cast<int>(std::round(3 * normal(engine))) - 4));
    if (engine() % 8 == 0 && i % vocab != 0) result.back() = 0;
  }
  return result;
}

void check_renorm(int vocab, DType dtype, const TokenFilter& filter,
                  const ReferenceFilter& reference, int num_rows, std::int64_t padding) {
  SCOPED_TRACE("vocab " + std::to_string(vocab) + " " + std::string(name(dtype)));
  const std::vector<double> flat = random_probs(vocab, num_rows, static_cast<unsigned>(vocab));
  const PaddedTensor probs(flat, {num_rows, vocab}, dtype, padding, padding);
  const PaddedTensor out({}, {num_rows, vocab}, dtype, padding, padding);
  renorm_probs(probs, out, filter);
  synchronize(test::test_device());
  const std::vector<double> got = out.values();
  const double tolerance = dtype == DType::f32 ? 3e-7 : dtype == DType::f16 ? 6e-4 : 4e-3;
  for (int r = 0; r < num_rows; ++r) {
    const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(r) * vocab;
    const std::vector<float> row(begin, begin + vocab);
    const std::vector<bool> kept = test::reference_kept(row, reference);
    double total = 0;
    for (int i = 0; i < vocab; ++i) total += kept[i] ? static_cast<double>(row[i]) : 0;
    for (int i = 0; i < vocab; ++i) {
      const double expected = kept[i] ? row[i] / total : 0;
      const double smallest = dtype == DType::f16 ? 6e-8 : 0;  // denormal
      ASSERT_NEAR(got[r * vocab + i], expected, tolerance * expected + smallest)
          << "row " << r << " token " << i;
    }
  }
  EXPECT_TRUE(out.padding_intact());
  EXPECT_TRUE(probs.unchanged());
}

TEST(RenormProbs, MatchesReference) {
  for (const DType dtype : kDTypes) {
    for (const int vocab : {1, 2, 37, 64, 2056}) {
      const int rows = test::is_emulated() ? 2 : 5;
      check_renorm(vocab, dtype, {.top_k = 7}, {.top_k = 7}, rows, vocab % 2);
      check_renorm(vocab, dtype, {.top_p = 0.6f}, {.top_p = 0.6f}, rows, 0);
    }
    check_renorm(100, dtype, {.top_k = 30, .top_p = 0.8f, .min_p = 0.01f},
                 {.top_k = 30, .top_p = 0.8f, .min_p = 0.01f}, 3, 4);
    check_renorm(100, dtype, {.top_k = 30, .top_p = 0.3f, .order = FilterOrder::joint},
                 {.top_k = 30, .top_p = 0.3f, .joint = true}, 3, 0);
  }
  const int vocab = test::is_emulated() ? 16400 : 128256;
  check_renorm(vocab, DType::f32, {.top_p = 0.9f}, {.top_p = 0.9f}, 1, 0);
  check_renorm(vocab, DType::bf16, {.top_k = 5000}, {.top_k = 5000}, 1, 0);
  check_renorm(vocab + 1, DType::bf16, {.top_k = 10}, {.top_k = 10}, 1, 1);
}

TEST(RenormProbs, ScalesOfEverySize) {
  for (const double scale : {0x1p-140, 0x1p-126, 1.0, 0x1p100, 0x1p126}) {
    const auto probs = TestTensor::from({scale, scale * 2, 0, scale / 2}, {1, 4}, DType::f32);
    renorm_probs(probs, probs, {.top_k = 2});
    synchronize(test::test_device());
    EXPECT_NEAR(probs.values()[0], 1.0 / 3, 1e-7) << scale;
    EXPECT_NEAR(probs.values()[1], 2.0 / 3, 1e-7) << scale;
    EXPECT_EQ(probs.values()[3], 0) << scale;
  }
}

TEST(RenormProbs, RowsThatAreNoDistribution) {
  const auto probs = TestTensor::from({kNan, 1, -1, 1, 0, 0, kInf, 1, 1, 3}, {5, 2}, DType::f32);
  const auto p = TestTensor::from({1, 1, 1, 1, kNan}, {5}, DType::f32);
  const auto out = TestTensor::poisoned({5, 2}, DType::f32);
  renorm_probs(probs, out, {.top_p = p.view()});
  synchronize(test::test_device());
  const std::vector<double> got = out.values();
  for (const int row : {0, 1, 3, 4}) {
    EXPECT_TRUE(std::isnan(got[2 * row]) && std::isnan(got[2 * row + 1])) << row;
  }
  EXPECT_EQ(got[4], 0);
  EXPECT_EQ(got[5], 0);
}

void check_mask(int vocab, DType dtype, int num_rows, std::int64_t padding) {
  SCOPED_TRACE("vocab " + std::to_string(vocab) + " " + std::string(name(dtype)));
  std::mt19937_64 engine(static_cast<unsigned>(vocab));
  std::normal_distribution<double> normal;
  std::vector<double> flat, ks;
  for (int r = 0; r < num_rows; ++r) {
    for (int i = 0; i < vocab; ++i) {
      flat.push_back(std::round(4 * normal(engine)) / 4);
      if (engine() % 7 == 0) flat.back() = -kInf;
    }
    constexpr int kKs[] = {3, 0, 1, 1000000, 700, 20};
    ks.push_back(kKs[r % 6]);
  }
  const PaddedTensor logits(flat, {num_rows, vocab}, dtype, padding, padding);
  const PaddedTensor out({}, {num_rows, vocab}, dtype, padding, padding);
  const auto k = TestTensor::from(ks, {num_rows}, DType::i32);
  top_k_mask_logits(logits, out, k.view());
  synchronize(test::test_device());
  std::vector<double> expected = flat;
  for (int r = 0; r < num_rows; ++r) {
    std::vector<std::ptrdiff_t> order(static_cast<std::size_t>(vocab));
    std::iota(order.begin(), order.end(), static_cast<std::ptrdiff_t>(r) * vocab);
    std::ranges::stable_sort(order, [&](auto a, auto b) { return flat[a] > flat[b]; });
    const int kept = ks[r] <= 0 ? vocab : std::min(vocab, static_cast<int>(ks[r]));
    for (int i = kept; i < vocab; ++i) expected[order[i]] = -kInf;
  }
  EXPECT_EQ(out.values(), expected);
  EXPECT_TRUE(out.padding_intact());
  EXPECT_TRUE(logits.unchanged());
}

TEST(TopKMaskLogits, MatchesReference) {
  for (const DType dtype : kDTypes) {
    for (const int vocab : {1, 5, 33, 64, 1500, 2056}) {
      check_mask(vocab, dtype, test::is_emulated() ? 3 : 12, vocab % 2);
    }
  }
  check_mask(test::is_emulated() ? 16400 : 128256, DType::f32, test::is_emulated() ? 1 : 6, 0);
  check_mask(test::is_emulated() ? 16401 : 151643, DType::bf16, test::is_emulated() ? 1 : 6, 1);
}

TEST(TopKMaskLogits, NanIsTheLargestAndInPlaceWorks) {
  const auto logits = TestTensor::from({1, kNan, kInf, 2, -0.0, 0}, {1, 6}, DType::f32);
  top_k_mask_logits(logits, logits, 2);
  synchronize(test::test_device());
  const std::vector<double> got = logits.values();
  EXPECT_TRUE(std::isnan(got[1]));
  EXPECT_EQ(got[2], kInf);
  for (const int i : {0, 3, 4, 5}) EXPECT_EQ(got[i], -kInf);
}

TEST(RenormProbs, BadInputIsNamed) {
  const auto probs = TestTensor::from(std::vector<double>(12, 1), {3, 4}, DType::f32);
  const auto f16 = TestTensor::poisoned({3, 4}, DType::f16);
  test::expect_errors({
      {[&] { renorm_probs(probs, f16, {}); }, ErrorCode::wrong_type,
       "renorm_probs: out: got f16, expected f32"},
      {[&] { renorm_probs(probs, TestTensor::poisoned({3, 5}, DType::f32), {}); },
       ErrorCode::invalid_argument,
       "renorm_probs: out: got shape [3, 5], expected [3, 4], the shape of probs"},
      {[&] { renorm_probs(probs, probs, {.top_p = 1.5f}); }, ErrorCode::invalid_argument,
       "renorm_probs: top_p: got 1.5, expected a number from 0 to 1"},
      {[&] { top_k_mask_logits(TestTensor::ints({1}), f16, 1); }, ErrorCode::wrong_type,
       "top_k_mask_logits: logits: got i32, expected f32 or f16 or bf16"},
      {[&] { top_k_mask_logits(f16, f16, TestTensor::ints({1}).view()); },
       ErrorCode::invalid_argument,
       "top_k_mask_logits: top_k: got 1 in dimension 0 (shape [1]), expected 3 (one element a "
       "row)"},
  });
  EXPECT_EQ(probs.values(), std::vector<double>(12, 1));
}

TEST(RenormProbs, WithoutRowsDoesNothing) {
  const auto none = TestTensor::poisoned({0, 4}, DType::f16);
  renorm_probs(none, none, {});
  top_k_mask_logits(none, none, 1);
}

}  // namespace
}  // namespace quire
