// token_log_probs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "quire/sampling.h"
#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

const double kNan = std::nan("");
const double kInf = INFINITY;

double reference(const std::vector<double>& logits, std::int64_t row, std::int64_t vocab,
                 std::int64_t id, double temperature) {
  const double* x = logits.data() + row * vocab;
  const double largest = *std::max_element(x, x + vocab);
  double sum = 0;
  for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp((x[i] - largest) / temperature);
  return (x[id] - largest) / temperature - std::log(sum);
}

struct RowCase {
  std::int64_t rows, vocab, tokens, padding = 0;
};

std::vector<RowCase> row_cases() {
  std::vector<RowCase> cases = {{1, 1, 1}, {3, 31, 2, 1}, {2, 128, 5, 4}, {1, 2052, 1}};
  if (!test::is_emulated()) {
    const std::vector<RowCase> large = {
        {7, 2048, 3}, {5, 2049, 1, 3}, {3, 32000, 700, 8}, {2, 128256, 20}, {70, 20000, 1}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

TEST(TokenLogProbs, MatchesReference) {
  for (const RowCase& c : row_cases()) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(c.rows) + " x " +
                   std::to_string(c.vocab));
      const auto values = test::rounded(test::random_values(c.rows * c.vocab, c.vocab, 3), dtype);
      const PaddedTensor logits(values, {c.rows, c.vocab}, dtype, c.padding, c.padding);
      std::vector<double> chosen, expected;
      for (std::int64_t i = 0; i < c.rows * c.tokens; ++i) {
        const std::int64_t row = i / c.tokens;
        chosen.push_back(static_cast<double>((i * 7919 + c.vocab - 1) % c.vocab));
        expected.push_back(
            reference(values, row, c.vocab, static_cast<std::int64_t>(chosen.back()), 0.75));
      }
      const PaddedTensor ids(chosen, {c.rows, c.tokens}, DType::i32, c.padding, c.padding);
      const PaddedTensor out({}, {c.rows, c.tokens}, DType::f32, c.padding, c.padding);
      token_log_probs(logits, ids, out, 0.75f);
      synchronize(test::test_device());
      const std::vector<double> got = out.values();
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], expected[i], 3e-6 * (1 + std::abs(expected[i]))) << i;
      }
      EXPECT_TRUE(out.padding_intact());
      EXPECT_TRUE(logits.unchanged());
    }
  }
}

TEST(TokenLogProbs, RowsWithoutAnswer) {
  const std::vector<double> values = {1,     2,     kNan,  0,      //
                                      1,     2,     kInf,  0,      //
                                      -kInf, -kInf, -kInf, -kInf,  //
                                      -kInf, 5,     -kInf, 5,      //
                                      -3e38, 3e38,  0,     0};
  const auto logits = TestTensor::from(values, {5, 4}, DType::f32);
  const auto ids =
      TestTensor::from({0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 3, 4, -1, 0, 1}, {5, 3}, DType::i32);
  const auto out = TestTensor::poisoned({5, 3}, DType::f32);
  token_log_probs(logits, ids, out);
  synchronize(test::test_device());
  const std::vector<double> got = out.values();
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(std::isnan(got[static_cast<std::size_t>(i)])) << i;
  EXPECT_EQ(got[9], -kInf);
  EXPECT_NEAR(got[10], -std::log(2.0), 1e-6);
  EXPECT_TRUE(std::isnan(got[11]));
  EXPECT_TRUE(std::isnan(got[12]));
  EXPECT_TRUE(got[13] <= -3e38);
  EXPECT_EQ(got[14], 0);
  EXPECT_TRUE(out.guards_intact());
}

TEST(TokenLogProbs, TemperatureOfEachRow) {
  const std::int64_t vocab = 40;
  const std::vector<double> temperatures = {1, 0, 100, 0.125, -1, kNan};
  const auto rows = static_cast<std::int64_t>(temperatures.size());
  auto values = test::rounded(test::random_values(rows * vocab, 5, 2), DType::f32);
  values[vocab + 7] = values[vocab + 30] = 9;  // the largest of row 1, twice
  const auto logits = TestTensor::from(values, {rows, vocab}, DType::f32);
  const auto ids = TestTensor::from({3, 7, 3, 3, 3, 3}, {rows}, DType::i32);
  const auto other = TestTensor::from({3, 30, 3, 3, 3, 3}, {rows}, DType::i32);
  const auto temperature = TestTensor::from(temperatures, {rows}, DType::f32);
  const auto out = TestTensor::poisoned({rows}, DType::f32);
  const auto out_of_other = TestTensor::poisoned({rows}, DType::f32);
  token_log_probs(logits, ids, out, temperature.view());
  token_log_probs(logits, other, out_of_other, temperature.view());
  synchronize(test::test_device());
  const std::vector<double> got = out.values();
  for (const std::int64_t row : {0, 2, 3}) {
    const double t = temperatures[static_cast<std::size_t>(row)];
    const double expected = reference(values, row, vocab, 3, t);
    EXPECT_NEAR(got[static_cast<std::size_t>(row)], expected, 3e-6 * (1 + std::abs(expected)));
  }
  EXPECT_EQ(got[1], 0);
  EXPECT_EQ(out_of_other.values()[1], -kInf);
  EXPECT_TRUE(std::isnan(got[4]) && std::isnan(got[5]));
}

TEST(TokenLogProbs, GreedyRowsWithoutAnswer) {
  const auto logits =
      TestTensor::from({1, kNan, 2, -kInf, -kInf, -kInf, 0, kInf, kInf}, {3, 3}, DType::bf16);
  const auto ids = TestTensor::from({2, 0, 1}, {3}, DType::i32);
  const auto out = TestTensor::poisoned({3}, DType::f32);
  token_log_probs(logits, ids, out, 0.f);
  synchronize(test::test_device());
  const std::vector<double> got = out.values();
  EXPECT_TRUE(std::isnan(got[0]) && std::isnan(got[1]));
  EXPECT_EQ(got[2], 0);
}

TEST(TokenLogProbs, Empty) {
  const auto logits = TestTensor::poisoned({0, 5}, DType::f32);
  const auto none = TestTensor::poisoned({0}, DType::i32);
  token_log_probs(logits, none, TestTensor::poisoned({0}, DType::f32));
  const auto row = TestTensor::poisoned({1, 5}, DType::f32);
  const auto no_tokens = TestTensor::poisoned({1, 0}, DType::i32);
  token_log_probs(row, no_tokens, TestTensor::poisoned({1, 0}, DType::f32));
}

TEST(TokenLogProbs, BadInputIsNamed) {
  const auto logits = TestTensor::random({2, 5}, DType::f32, 1);
  const auto ids = TestTensor::from({0, 1, 2, 3, 4, 0}, {2, 3}, DType::i32);
  const auto out = TestTensor::poisoned({2, 3}, DType::f32);
  const auto clean = out.raw();
  TensorView elsewhere = ids;
  elsewhere.device = test::other_device();
  const std::string here = to_string(test::test_device()), there = to_string(elsewhere.device);
  test::expect_errors({
      {[&] { token_log_probs(ids, ids, out); }, ErrorCode::wrong_type,
       "token_log_probs: logits: got i32, expected f32 or f16 or bf16"},
      {[&] { token_log_probs(logits, out, out); }, ErrorCode::wrong_type,
       "token_log_probs: ids: got f32, expected i32"},
      {[&] { token_log_probs(logits, ids, ids); }, ErrorCode::wrong_type,
       "token_log_probs: out: got i32, expected f32"},
      {[&] { token_log_probs(logits, TestTensor::poisoned({3, 3}, DType::i32), out); },
       ErrorCode::invalid_argument,
       "token_log_probs: ids: got 3 in dimension 0 (shape [3, 3]), expected 2 (a row for each of "
       "logits)"},
      {[&] { token_log_probs(logits, TestTensor::poisoned({2, 3, 1}, DType::i32), out); },
       ErrorCode::invalid_argument,
       "token_log_probs: ids: got rank 3 (shape [2, 3, 1]), expected rank 1"},
      {[&] { token_log_probs(logits, ids, TestTensor::poisoned({2}, DType::f32)); },
       ErrorCode::invalid_argument,
       "token_log_probs: out: got shape [2], expected [2, 3], the shape of ids"},
      {[&] { token_log_probs(logits, elsewhere, out); }, ErrorCode::invalid_argument,
       "token_log_probs: ids: got " + there + ", expected " + here + ", the device of logits"},
      {[&] { token_log_probs(logits, ids, out, -1.f); }, ErrorCode::invalid_argument,
       "token_log_probs: temperature: got -1, expected a finite number, 0 or above"},
  });
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
