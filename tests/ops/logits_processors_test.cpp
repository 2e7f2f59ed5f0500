// Bias, penalties, temperature and grammar masks against their definition in double.
#include "quire/logits_processors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

const double kInf = INFINITY;

// Random inputs of every processor.
struct Inputs {
  int rows, vocab;
  std::vector<double> logits, ids, biases, counts, repetition, presence, frequency, temperature;
  std::vector<std::vector<bool>> prompt, allowed;
  static constexpr int kBiases = 7;

  Inputs(int rows, int vocab) : rows(rows), vocab(vocab) {
    std::mt19937_64 engine(static_cast<unsigned>(rows * 1000 + vocab));
    std::normal_distribution<double> normal;
    for (int r = 0; r < rows; ++r) {
      prompt.emplace_back(), allowed.emplace_back();
      for (int i = 0; i < vocab; ++i) {
        logits.push_back(std::round(16 * normal(engine)) / 16);
        counts.push_back(engine() % 3 == 0 ? static_cast<double>(engine() % 5) : 0);
        prompt.back().push_back(engine() % 4 == 0);
        allowed.back().push_back(engine() % 5 != 0);
      }
      for (int j = 0; j < kBiases; ++j) {
        const bool outside = engine() % 4 == 0;
        ids.push_back(outside ? (j % 2 == 0 ? -1 : vocab)
                              : static_cast<double>(engine() % static_cast<unsigned>(vocab)));
        biases.push_back(j == 1 ? -kInf : std::round(8 * normal(engine)) / 8);
      }
      repetition.push_back(r % 3 == 0 ? 1.25 : 0.5);
      presence.push_back(r % 2 == 0 ? 0.5 : -0.25);
      frequency.push_back(r % 4 == 0 ? 0 : 0.125);
      temperature.push_back(r % 3 == 1 ? 0 : 2);
    }
  }

  static std::vector<double> packed(const std::vector<std::vector<bool>>& masks, int words) {
    std::vector<double> result;
    for (const auto& mask : masks) {
      for (int w = 0; w < words; ++w) {
        std::uint32_t bits = 0;
        for (int b = 0; b < 32; ++b) {
          const std::size_t i = static_cast<std::size_t>(32 * w + b);
          if (i < mask.size() && mask[i]) bits |= 1u << b;
        }
        result.push_back(static_cast<std::int32_t>(bits));
      }
    }
    return result;
  }
};

struct Chosen {
  bool bias, penalties, mask;
};

std::vector<double> reference(const Inputs& in, Chosen chosen) {
  std::vector<double> out = in.logits;
  for (int r = 0; r < in.rows; ++r) {
    double* row = out.data() + static_cast<std::ptrdiff_t>(r) * in.vocab;
    for (int j = 0; chosen.bias && j < Inputs::kBiases; ++j) {
      const double id = in.ids[r * Inputs::kBiases + j];
      if (id >= 0 && id < in.vocab) {
        row[static_cast<int>(id)] += in.biases[r * Inputs::kBiases + j];
      }
    }
    for (int i = 0; i < in.vocab; ++i) {
      double& x = row[i];
      if (chosen.penalties) {
        const double count = in.counts[r * in.vocab + i];
        if (count > 0 || in.prompt[r][i]) x = x > 0 ? x / in.repetition[r] : x * in.repetition[r];
        x -= in.frequency[r] * count;
        if (count > 0) x -= in.presence[r];
        if (in.temperature[r] != 0) x /= in.temperature[r];
      }
      if (chosen.mask && !in.allowed[r][i]) x = -kInf;
    }
  }
  return out;
}

void check_processors(int rows, int vocab, DType dtype, Chosen chosen, std::int64_t padding,
                      bool in_place) {
  SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(vocab) + " " +
               std::string(name(dtype)));
  const Inputs in(rows, vocab);
  const int words = (vocab + 31) / 32;
  const PaddedTensor logits(in.logits, {rows, vocab}, dtype, padding, padding);
  const PaddedTensor apart({}, {rows, vocab}, dtype, padding, padding);
  const PaddedTensor& out = in_place ? logits : apart;
  const auto ids = TestTensor::from(in.ids, {rows, Inputs::kBiases}, DType::i32);
  const auto biases = TestTensor::from(in.biases, {rows, Inputs::kBiases}, DType::f32);
  const auto counts = TestTensor::from(in.counts, {rows, vocab}, DType::i32);
  const auto prompt = TestTensor::from(Inputs::packed(in.prompt, words), {rows, words}, DType::i32);
  const auto allowed =
      TestTensor::from(Inputs::packed(in.allowed, words + 1), {rows, words + 1}, DType::i32);
  const auto per_row = [&](const std::vector<double>& values) {
    return TestTensor::from(values, {rows}, DType::f32);
  };
  const auto repetition = per_row(in.repetition), presence = per_row(in.presence);
  const auto frequency = per_row(in.frequency), temperature = per_row(in.temperature);
  LogitsProcessors processors;
  if (chosen.bias) {
    processors.bias_ids = ids.view();
    processors.bias_values = biases.view();
  }
  if (chosen.penalties) {
    processors.output_counts = counts.view();
    processors.prompt_mask = prompt.view();
    processors.repetition_penalty = repetition.view();
    processors.presence_penalty = presence.view();
    processors.frequency_penalty = frequency.view();
    processors.temperature = temperature.view();
  }
  if (chosen.mask) processors.allowed_mask = allowed.view();
  apply_logits_processors(logits, out, processors);
  synchronize(test::test_device());
  const std::vector<double> got = out.values(), expected = reference(in, chosen);
  const double tolerance = dtype == DType::f32 ? 1e-6 : dtype == DType::f16 ? 1e-3 : 8e-3;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(expected[i])) {
      ASSERT_EQ(got[i], expected[i]) << i;
    } else {
      ASSERT_NEAR(got[i], expected[i], tolerance * (std::abs(expected[i]) + 0.1)) << i;
    }
  }
  EXPECT_TRUE(out.padding_intact());
}

TEST(LogitsProcessors, MatchTheirDefinition) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const Chosen chosen : {Chosen{true, true, true}, Chosen{true, false, false},
                                Chosen{false, true, false}, Chosen{false, false, true}}) {
      check_processors(4, 37, dtype, chosen, 1, false);
      check_processors(3, 64, dtype, chosen, 8, true);
    }
    check_processors(2, 4200, dtype, {true, true, true}, 0, false);
  }
  if (!test::is_emulated()) {
    check_processors(5, 128256, DType::f32, {true, true, true}, 0, true);
    check_processors(3, 151643, DType::bf16, {true, true, true}, 0, false);
  }
}

TEST(LogitsProcessors, NothingGivenCopies) {
  const auto logits = TestTensor::random({3, 50}, DType::bf16, 1);
  const auto out = TestTensor::poisoned({3, 50}, DType::bf16);
  apply_logits_processors(logits, out, {});
  synchronize(test::test_device());
  EXPECT_EQ(out.values(), logits.values());
  apply_logits_processors(TestTensor::poisoned({0, 5}, DType::f32),
                          TestTensor::poisoned({0, 5}, DType::f32), {});
}

TEST(LogitsProcessors, BadInputIsNamed) {
  const auto logits = TestTensor::random({2, 40}, DType::f32, 1);
  const auto out = TestTensor::poisoned({2, 40}, DType::f32);
  const auto clean = out.raw();
  const auto words = TestTensor::poisoned({2, 1}, DType::i32);
  const auto f32 = TestTensor::poisoned({2, 2}, DType::f32);
  const auto with = [](auto member, auto value) {
    LogitsProcessors processors;
    processors.*member = value;
    return processors;
  };
  const auto run = [&](const LogitsProcessors& processors) {
    apply_logits_processors(logits, out, processors);
  };
  using P = LogitsProcessors;
  test::expect_errors({
      {[&] { run(with(&P::allowed_mask, words.view())); }, ErrorCode::invalid_argument,
       "apply_logits_processors: allowed_mask: got 1 columns, expected at least 2"},
      {[&] { run(with(&P::allowed_mask, f32.view())); }, ErrorCode::wrong_type,
       "apply_logits_processors: allowed_mask: got f32, expected i32"},
      {[&] { run(with(&P::output_counts, words.view())); }, ErrorCode::invalid_argument,
       "apply_logits_processors: output_counts: got 1 columns, expected at least 40"},
      {[&] { run(with(&P::bias_ids, words.view())); }, ErrorCode::invalid_argument,
       "apply_logits_processors: bias_ids: got one of bias_ids and bias_values, expected both or "
       "none"},
      {[&] { run(with(&P::repetition_penalty, PerRow<float>(0.f))); }, ErrorCode::invalid_argument,
       "apply_logits_processors: repetition_penalty: got 0, expected a finite number above 0"},
      {[&] { run(with(&P::presence_penalty, PerRow<float>(std::nanf("")))); },
       ErrorCode::invalid_argument,
       "apply_logits_processors: presence_penalty: got nan, expected a finite number"},
      {[&] { run(with(&P::temperature, PerRow<float>(-1.f))); }, ErrorCode::invalid_argument,
       "apply_logits_processors: temperature: got -1, expected a finite number, 0 or above"},
      {[&] { apply_logits_processors(logits, TestTensor::poisoned({2, 40}, DType::f16), {}); },
       ErrorCode::wrong_type, "apply_logits_processors: out: got f16, expected f32"},
  });
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
