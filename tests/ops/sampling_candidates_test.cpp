// Filters that keep few tokens of long rows: candidates of one pass, where they suffice.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "quire/sampling.h"
#include "support/reference_sampling.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::ReferenceFilter;
using test::TestTensor;
using Row = std::vector<double>;

const double kNan = std::nan("");
const double kInf = INFINITY;
constexpr int kSeed = 11;

TokenFilter filter_of(const ReferenceFilter& f) {
  return {f.top_k.value_or(0), f.top_p.value_or(1.f), f.min_p.value_or(0.f),
          f.joint ? FilterOrder::joint : FilterOrder::top_k_first};
}

std::string text_of(const ReferenceFilter& f) {
  return "k " + std::to_string(f.top_k.value_or(0)) + " p " + std::to_string(f.top_p.value_or(1)) +
         " min_p " + std::to_string(f.min_p.value_or(0)) + (f.joint ? " joint" : "");
}

// Logits are sampled, and their weights, of which a NaN has none, as probabilities, and filtered.
void check_filter(const std::vector<Row>& logits, const ReferenceFilter& filter,
                  float temperature) {
  SCOPED_TRACE(text_of(filter));
  const auto rows = static_cast<std::int64_t>(logits.size());
  const auto vocab = static_cast<std::int64_t>(logits[0].size());
  Row flat, flat_weights;
  std::vector<std::vector<float>> weights;
  for (const Row& row : logits) {
    weights.push_back(test::logit_weights(row, temperature));
    flat.insert(flat.end(), row.begin(), row.end());
    flat_weights.insert(flat_weights.end(), weights.back().begin(), weights.back().end());
  }
  const auto input = TestTensor::from(flat, {rows, vocab}, DType::f32);
  const auto probs = TestTensor::from(flat_weights, {rows, vocab}, DType::f32);
  const auto ids = TestTensor::poisoned({rows}, DType::i32);
  const auto ids_of_probs = TestTensor::poisoned({rows}, DType::i32);
  const auto renormed = TestTensor::poisoned({rows, vocab}, DType::f32);
  SamplingOptions options;
  options.seed = kSeed;
  sample_from_logits(input, ids, filter_of(filter), temperature, options);
  filtered_sample(probs, ids_of_probs, filter_of(filter), options);
  renorm_probs(probs, renormed, filter_of(filter));
  synchronize(test::test_device());
  const Row got = ids.values(), got_of_probs = ids_of_probs.values(), got_rows = renormed.values();
  for (std::size_t r = 0; r < logits.size(); ++r) {
    SCOPED_TRACE("row " + std::to_string(r));
    const bool has_nan = std::ranges::any_of(logits[r], [](double x) { return std::isnan(x); });
    const auto random = test::reference_philox(kSeed, 0, r);
    const int expected = test::reference_token(weights[r], filter, random);
    EXPECT_EQ(got[r], has_nan ? -1 : expected);
    EXPECT_EQ(got_of_probs[r], expected);
    const std::vector<bool> kept = test::reference_kept(weights[r], filter);
    double total = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) total += kept[i] ? weights[r][i] : 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const double value = kept[i] ? weights[r][i] / total : 0;
      ASSERT_NEAR(got_rows[r * kept.size() + i], value, 3e-7 * value) << "token " << i;
    }
  }
}

// What a sample of a row says about its largest elements is true for few of these, wrong for
// others.
std::vector<Row> rows_in_any_order(int vocab, int k) {
  std::mt19937_64 engine(3);
  std::normal_distribution<double> normal;
  const std::function<double(int)> orders[] = {
      [&](int i) { return 1e-3 * i; },
      [&](int i) { return -1e-3 * i; },
      [&](int) { return 1.5; },
      [&](int i) { return (i > vocab / 2 && i < vocab / 2 + 3 * k ? 20 : 0) + normal(engine); },
      [&](int i) { return i % 97 == 5 ? normal(engine) : -kInf; },
      [&](int i) { return i == vocab - 1 ? 3 : -kInf; },
      [&](int) { return std::round(normal(engine)); },
      [&](int i) { return i == vocab / 3 ? kNan : normal(engine); },
      [&](int) { return 5 * normal(engine); },
      [&](int i) { return i % 1000 == 7 ? 12 + 0.01 * normal(engine) : 3 * normal(engine); },
  };
  std::vector<Row> rows;
  for (const auto& order : orders) {
    Row& row = rows.emplace_back();
    for (int i = 0; i < vocab; ++i) row.push_back(static_cast<float>(order(i)));
  }
  return rows;
}

// `copies` of the rows in a call; 0: each row in one of its own, which blocks share.
void check_orders(int vocab, int copies, const ReferenceFilter& filter, float temperature = 1) {
  SCOPED_TRACE("vocab " + std::to_string(vocab) + " temperature " + std::to_string(temperature));
  const std::vector<Row> rows = rows_in_any_order(vocab, filter.top_k.value_or(50));
  for (std::size_t r = 0; copies == 0 && r < rows.size(); ++r) {
    check_filter({rows[r]}, filter, temperature);
  }
  std::vector<Row> many;
  for (int i = 0; i < copies; ++i) many.insert(many.end(), rows.begin(), rows.end());
  if (copies > 0) check_filter(many, filter, temperature);
}

constexpr ReferenceFilter kFilters[] = {
    {.top_p = 0.9f},
    {.top_p = 0.3f, .min_p = 0.01f},
    {.top_k = 40, .top_p = 0.5f, .joint = true},
    {.top_k = 3000, .top_p = 0.5f, .joint = true},
    {.top_k = 5000, .top_p = 0.9f},
    {.min_p = 0.05f},
    {.top_p = 0.f},
};

TEST(SamplingCandidates, TopKOfRowsInAnyOrder) {
  check_orders(20000, 1, {.top_k = 20, .top_p = 0.9f});
  check_orders(20000, 0, {.top_k = 20, .top_p = 0.9f});
  check_orders(20000, 1, {.top_k = 300, .top_p = 0.9f}, 0.5f);
  check_orders(20001, 1, {.top_k = 20, .top_p = 0.9f}, 1e6f);  // many logits of one weight
  if (!test::on_gpu()) return;                                 // the CPU has no candidates
  for (const int k : {1, 50, 700, 2000}) {
    check_orders(128256, 1, {.top_k = k, .top_p = 0.9f});
    check_orders(128256, 10, {.top_k = k, .top_p = 0.9f});  // a block each
  }
}

TEST(SamplingCandidates, NucleusOfRowsInAnyOrder) {
  for (const ReferenceFilter& filter : kFilters) {
    check_orders(20000, 1, filter);
    if (test::on_gpu()) check_orders(128256, 7, filter);
  }
  for (const int f : {0, 2, 3, 5}) check_orders(20000, 0, kFilters[f]);
  check_orders(20001, 1, kFilters[0], 1e6f);
  check_orders(20000, 1, kFilters[0], 0.1f);
}

// The mass that top-p needs ends at the last one of 32 equal tokens, or a few units off: what is
// known of the tail, a sum of floats, does not tell which.
TEST(SamplingCandidates, NucleusThatEndsAtTheMassOfAToken) {
  constexpr int kVocab = 20000;
  Row row(kVocab, -8);
  for (int i = 0; i < 64; ++i) row[static_cast<std::size_t>(311 * i)] = 0.001 * (i / 32);
  const std::vector<float> weights = test::logit_weights(row, 1);
  double total = 0;
  for (const float x : weights) total += x;
  const auto p = static_cast<float>(32 / total);
  for (const float off : {-1e-6f, -2e-7f, 0.f, 2e-7f, 1e-6f}) {
    for (const std::size_t rows : {1, 2, 6}) {
      check_filter(std::vector<Row>(rows, row), {.top_p = p + off}, 1);
    }
    check_filter({row}, {.top_k = 50, .top_p = p + off, .joint = true}, 1);
  }
}

}  // namespace
}  // namespace quire
