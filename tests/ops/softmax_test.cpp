// softmax and argmax.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

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
constexpr DType kLogitsDTypes[] = {DType::f32, DType::f16, DType::bf16};

std::vector<double> reference_softmax(const std::vector<double>& logits, std::size_t vocab,
                                      const std::vector<double>& temperatures) {
  std::vector<double> probs(logits.size());
  for (std::size_t begin = 0; begin < logits.size(); begin += vocab) {
    const double temperature = temperatures[begin / vocab];
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto largest = std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab));
    double sum = 0;
    for (std::size_t i = 0; i < vocab; ++i) {
      const bool greedy = row + static_cast<std::ptrdiff_t>(i) == largest;
      probs[begin + i] =
          temperature > 0 ? std::exp((row[static_cast<std::ptrdiff_t>(i)] - *largest) / temperature)
                          : (greedy ? 1.0 : 0.0);
      sum += probs[begin + i];
    }
    for (std::size_t i = 0; i < vocab; ++i) probs[begin + i] /= sum;
  }
  return probs;
}

void expect_close(const std::vector<double>& out, const std::vector<double>& ref) {
  ASSERT_EQ(out.size(), ref.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    // The exponent's rounding grows with its size; f32 ends at 1e-38, results below it may be 0.
    if (!(std::abs(out[i] - ref[i]) <= 3e-5 * ref[i] + 1e-37)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << ref[i];
    }
  }
}

struct RowCase {
  std::int64_t rows, vocab, padding = 0;
};

std::vector<RowCase> row_cases() {
  std::vector<RowCase> cases = {{1, 1}, {2, 2}, {3, 31, 1}, {2, 128, 4}, {4, 513}, {1, 2052}};
  if (!test::is_emulated()) {
    const std::vector<RowCase> large = {{7, 2048}, {5, 2049, 3}, {3, 32000, 8}, {2, 128256}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

TEST(Softmax, MatchesReference) {
  for (const RowCase& c : row_cases()) {
    for (const DType dtype : kLogitsDTypes) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(c.rows) + " x " +
                   std::to_string(c.vocab));
      const auto values = test::rounded(test::random_values(c.rows * c.vocab, c.vocab, 3), dtype);
      const PaddedTensor logits(values, {c.rows, c.vocab}, dtype, c.padding, c.padding);
      const PaddedTensor probs({}, {c.rows, c.vocab}, DType::f32, c.padding, c.padding);
      softmax(logits, probs, 0.75f);
      synchronize(test::test_device());
      expect_close(probs.values(),
                   reference_softmax(values, c.vocab, std::vector<double>(c.rows, 0.75)));
      EXPECT_TRUE(probs.padding_intact());
      EXPECT_TRUE(logits.unchanged());
    }
  }
}

TEST(Softmax, TemperatureOfEachRow) {
  const std::vector<double> temperatures = {1, 0, 100, 0.125, 0x1p-40, 0x1p-140};
  const std::int64_t rows = static_cast<std::int64_t>(temperatures.size()), vocab = 40;
  const auto values = test::random_values(rows * vocab, 5, 2);
  const auto logits = TestTensor::from(values, {rows, vocab}, DType::f32);
  const auto probs = TestTensor::poisoned({rows, vocab}, DType::f32);
  const auto temperature = TestTensor::from(temperatures, {rows}, DType::f32);
  softmax(logits, probs, temperature.view());
  synchronize(test::test_device());
  expect_close(probs.values(), reference_softmax(values, vocab, temperatures));
  EXPECT_TRUE(probs.guards_intact());
}

TEST(Softmax, TemperatureZeroChoosesTheLowestOfEquals) {
  const auto logits =
      TestTensor::from({1, 3, 3, 2, -0.0, 0, -1, -2, -kInf, kInf, 0, kInf}, {3, 4}, DType::bf16);
  const auto probs = TestTensor::poisoned({3, 4}, DType::f32);
  softmax(logits, probs, 0.f);
  synchronize(test::test_device());
  EXPECT_EQ(probs.values(), (std::vector<double>{0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0}));
}

TEST(Softmax, MaskedAndHugeLogits) {
  const auto logits = TestTensor::from({-kInf, 2, -kInf, 2,            //
                                        3e38, -3e38, 3e38, -kInf,      //
                                        -1e5, -1e5 - 1, -kInf, -kInf,  //
                                        -3e38, -3e38, -3e38, -3e38},
                                       {4, 4}, DType::f32);
  const auto probs = TestTensor::poisoned({4, 4}, DType::f32);
  softmax(logits, probs);
  synchronize(test::test_device());
  const double e = std::exp(-1.0);
  expect_close(probs.values(), {0, 0.5, 0, 0.5, 0.5, 0, 0.5, 0, 1 / (1 + e), e / (1 + e), 0, 0,
                                0.25, 0.25, 0.25, 0.25});
}

void expect_row(const std::vector<double>& values, int row, int vocab, bool nan) {
  for (int i = 0; i < vocab; ++i) {
    const double x = values[row * vocab + i];
    EXPECT_TRUE(nan ? std::isnan(x) : x == 0) << "row " << row << " element " << i << ": " << x;
  }
}

TEST(Softmax, RowsWithoutADistributionAreFlagged) {
  const std::vector<double> values = {1,     kNan,  2,     3,      // NaN
                                      kNan,  kNan,  kNan,  kNan,   //
                                      -kInf, kNan,  -kInf, -kInf,  //
                                      -kInf, -kInf, -kInf, -kInf,  // zeros
                                      1,     kInf,  1,     1};
  const auto logits = TestTensor::from(values, {5, 4}, DType::f32);
  for (const float temperature : {1.f, 0.f}) {
    const auto probs = TestTensor::poisoned({5, 4}, DType::f32);
    softmax(logits, probs, temperature);
    synchronize(test::test_device());
    const std::vector<double> out = probs.values();
    for (const int row : {0, 1, 2}) expect_row(out, row, 4, true);
    expect_row(out, 3, 4, false);
    if (temperature > 0) {
      expect_row(out, 4, 4, true);
    } else {
      EXPECT_EQ(out[17], 1);
    }
    // What the samplers make of it.
    const auto ids = TestTensor::poisoned({5}, DType::i32);
    sample(probs, ids);
    synchronize(test::test_device());
    EXPECT_EQ(ids.values(), (std::vector<double>{-1, -1, -1, -1, temperature > 0 ? -1.0 : 1.0}));
  }
}

TEST(Softmax, BadTemperaturesOfATensorGiveNan) {
  const auto logits = TestTensor::from(std::vector<double>(12, 1), {4, 3}, DType::f32);
  const auto probs = TestTensor::poisoned({4, 3}, DType::f32);
  const auto temperature = TestTensor::from({-1, kNan, kInf, 1}, {4}, DType::f32);
  softmax(logits, probs, temperature.view());
  synchronize(test::test_device());
  const std::vector<double> out = probs.values();
  for (const int row : {0, 1, 2}) expect_row(out, row, 3, true);
  EXPECT_NEAR(out[9], 1.0 / 3, 1e-6);
}

TEST(Softmax, InPlace) {
  const auto values = test::random_values(3 * 70, 8, 2);
  for (const double temperature : {1.0, 0.0}) {
    const auto logits = TestTensor::from(values, {3, 70}, DType::f32);
    softmax(logits, logits, static_cast<float>(temperature));
    synchronize(test::test_device());
    expect_close(logits.values(),
                 reference_softmax(values, 70, std::vector<double>(3, temperature)));
  }
}

TEST(Softmax, WithoutRowsDoesNothing) {
  softmax(TestTensor::poisoned({0, 5}, DType::f16), TestTensor::poisoned({0, 5}, DType::f32));
  argmax(TestTensor::poisoned({0, 5}, DType::f16), TestTensor::poisoned({0}, DType::i32));
}

TEST(Argmax, MatchesReference) {
  for (const RowCase& c : row_cases()) {
    for (const DType dtype : kLogitsDTypes) {
      // Coarse values, so that the largest one appears more than once.
      auto values = test::random_values(c.rows * c.vocab, c.vocab + 1, 2);
      for (double& x : values) x = std::round(x);
      const PaddedTensor logits(values, {c.rows, c.vocab}, dtype, c.padding, c.padding);
      const auto ids = TestTensor::poisoned({c.rows}, DType::i32);
      argmax(logits, ids);
      synchronize(test::test_device());
      std::vector<double> expected;
      for (std::int64_t r = 0; r < c.rows; ++r) {
        const auto row = values.begin() + r * c.vocab;
        expected.push_back(static_cast<double>(std::max_element(row, row + c.vocab) - row));
      }
      EXPECT_EQ(ids.values(), expected) << name(dtype) << " " << c.vocab;
      EXPECT_TRUE(ids.guards_intact());
    }
  }
}

TEST(Argmax, SpecialValues) {
  const auto logits = TestTensor::from({-kInf, -kInf, -kInf,  // the lowest of equals
                                        -2, -1, -1,           //
                                        -0.0, 0, -1,          // -0 equals 0
                                        1, kInf, kInf,        //
                                        kInf, kNan, 1,        // NaN
                                        -3e38, -kInf, -3e38},
                                       {6, 3}, DType::f32);
  const auto whole = TestTensor::poisoned({6, 2}, DType::i32);
  TensorView ids = whole.view();  // every second element
  ids.rank = 1;
  argmax(logits, ids);
  synchronize(test::test_device());
  EXPECT_EQ(whole.values(), (std::vector<double>{0, -1, 1, -1, 0, -1, 1, -1, -1, -1, 0, -1}));
}

TEST(Softmax, BadInputIsNamed) {
  const auto logits = TestTensor::random({3, 4}, DType::f16, 1);
  const auto probs = TestTensor::poisoned({3, 4}, DType::f32);
  const auto ids = TestTensor::poisoned({3}, DType::i32);
  const auto clean = probs.raw();
  const auto f32 = TestTensor::random({3, 4}, DType::f32, 1);
  const auto strided = [](TensorView view, std::int64_t row, std::int64_t column) {
    view.strides[0] = row;
    view.strides[1] = column;
    return view;
  };
  TensorView elsewhere = probs;
  elsewhere.device = test::other_device();
  TensorView huge = logits;
  huge.shape = {1, (1 << 23) + 1};
  const std::string here = to_string(test::test_device()), there = to_string(elsewhere.device);
  const auto four = TestTensor::from({1, 1, 1, 1}, {4}, DType::f32);
  test::expect_errors({
      {[&] { softmax(TestTensor::poisoned({4}, DType::f16), probs); }, ErrorCode::invalid_argument,
       "softmax: logits: got rank 1 (shape [4]), expected rank 2"},
      {[&] { softmax(ids, probs); }, ErrorCode::wrong_type,
       "softmax: logits: got i32, expected f32 or f16 or bf16"},
      {[&] { softmax(logits, logits); }, ErrorCode::wrong_type,
       "softmax: probs: got f16, expected f32"},
      {[&] { softmax(logits, TestTensor::poisoned({3, 5}, DType::f32)); },
       ErrorCode::invalid_argument,
       "softmax: probs: got shape [3, 5], expected [3, 4], the shape of logits"},
      {[&] { softmax(logits, elsewhere); }, ErrorCode::invalid_argument,
       "softmax: probs: got " + there + ", expected " + here + ", the device of logits"},
      {[&] { softmax(strided(logits, 4, 2), probs); }, ErrorCode::invalid_argument,
       "softmax: logits: got strides [4, 2], expected stride 1 in the last dimension"},
      {[&] { softmax(TestTensor::poisoned({3, 0}, DType::f32), probs); },
       ErrorCode::invalid_argument,
       "softmax: logits: got a vocabulary of 0, expected 1 to 8388608"},
      {[&] { softmax(huge, probs); }, ErrorCode::invalid_argument,
       "softmax: logits: got a vocabulary of 8388609, expected 1 to 8388608"},
      {[&] { softmax(logits, probs, -1.f); }, ErrorCode::invalid_argument,
       "softmax: temperature: got -1, expected a finite number, 0 or above"},
      {[&] { softmax(logits, probs, static_cast<float>(kNan)); }, ErrorCode::invalid_argument,
       "softmax: temperature: got nan, expected a finite number, 0 or above"},
      {[&] { softmax(logits, probs, four.view()); }, ErrorCode::invalid_argument,
       "softmax: temperature: got 4 in dimension 0 (shape [4]), expected 3 (one element a row)"},
      {[&] { softmax(logits, probs, ids.view()); }, ErrorCode::wrong_type,
       "softmax: temperature: got i32, expected f32"},
      {[&] { argmax(logits, probs); }, ErrorCode::wrong_type, "argmax: ids: got f32, expected i32"},
      {[&] { argmax(logits, TestTensor::poisoned({4}, DType::i32)); }, ErrorCode::invalid_argument,
       "argmax: ids: got 4 in dimension 0 (shape [4]), expected 3 (one element a row)"},
  });
  EXPECT_EQ(probs.raw(), clean);
}

}  // namespace
}  // namespace quire
