// Processors and a sampler in one call against the two calls, each of which has tests of its own.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

#include "quire/logits_processors.h"
#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;
using Values = std::vector<double>;

struct Case {
  int rows, vocab;
  DType dtype;
  std::int64_t padding;
  bool in_place, bias, indices;
  FilterOrder order;
};

// Tensors of all arguments. The last rows: nothing allowed, a NaN that is masked, one that is not.
struct Arguments {
  static constexpr int kBiases = 9;
  std::mt19937_64 engine;
  Values logits;
  std::vector<TestTensor> tensors;
  LogitsProcessors processors;
  TokenFilter filter;

  explicit Arguments(const Case& c) : engine(static_cast<unsigned>(c.vocab)) {
    const int words = (c.vocab + 31) / 32;
    tensors.reserve(16);
    std::normal_distribution<double> normal(0, 2.5);
    Values counts, prompt, allowed;
    for (int r = 0; r < c.rows; ++r) {
      for (int i = 0; i < c.vocab; ++i) {
        logits.push_back(std::round(normal(engine) * 8) / 8);
        counts.push_back(engine() % 3 == 0 ? static_cast<double>(engine() % 4) : 0);
      }
      for (int w = 0; w < words; ++w) {
        prompt.push_back(static_cast<std::int32_t>(engine() & engine()));
        allowed.push_back(r == c.rows - 1 ? 0 : static_cast<std::int32_t>(engine() | engine()));
      }
    }
    if (c.rows > 3) {
      for (const int r : {c.rows - 2, c.rows - 3}) {
        const auto word = static_cast<std::size_t>(r * words);
        const auto bits = static_cast<std::int32_t>(allowed[word]);
        allowed[word] = r == c.rows - 2 ? bits | 1 : bits & ~1;
        logits[static_cast<std::size_t>(r * c.vocab)] = std::nan("");
      }
    }
    processors.output_counts = add(counts, {c.rows, c.vocab}, DType::i32);
    processors.prompt_mask = add(prompt, {c.rows, words}, DType::i32);
    processors.allowed_mask = add(allowed, {c.rows, words}, DType::i32);
    processors.repetition_penalty = per_row(c.rows, {1.25, 1, 2}, DType::f32);
    processors.presence_penalty = 0.5f;
    processors.frequency_penalty = per_row(c.rows, {0.125, 0}, DType::f32);
    if (c.bias) {
      Values ids, biases;
      for (int i = 0; i < c.rows * kBiases; ++i) {
        ids.push_back(i % 4 == 0 ? -1 : static_cast<double>(engine() % unsigned(c.vocab)));
        biases.push_back(std::round(8 * normal(engine)) / 8);
      }
      processors.bias_ids = add(ids, {c.rows, kBiases}, DType::i32);
      processors.bias_values = add(biases, {c.rows, kBiases}, DType::f32);
    }
    const int num_out = c.indices ? c.rows + 2 : c.rows;
    processors.temperature = per_row(num_out, {0.75, 0, 1, 2}, DType::f32);
    filter.top_k = PerRow<int>(per_row(num_out, {20, 0, 3, 0, 3000}, DType::i32));
    filter.top_p = PerRow<float>(per_row(num_out, {0.9, 0.7, 1}, DType::f32));
    filter.min_p = 0.001f;
    filter.order = c.order;
  }

  TensorView add(const Values& values, const test::Shape& shape, DType dtype) {
    tensors.push_back(TestTensor::from(values, shape, dtype));
    return tensors.back().view();
  }
  TensorView per_row(int rows, const Values& cycle, DType dtype) {
    Values values;
    for (int r = 0; r < rows; ++r) values.push_back(cycle[std::size_t(r) % cycle.size()]);
    return add(values, {rows}, dtype);
  }
};

// What a call writes.
struct Outputs {
  TestTensor ids, valid, log_probs;

  explicit Outputs(int rows)
      : ids(TestTensor::poisoned({rows}, DType::i32)),
        valid(TestTensor::poisoned({rows}, DType::boolean)),
        log_probs(TestTensor::poisoned({rows}, DType::f32)) {}
};

void expect_two_calls(const Case& c) {
  SCOPED_TRACE(std::to_string(c.rows) + " x " + std::to_string(c.vocab) + " " +
               std::string(name(c.dtype)) + (c.bias ? " biased" : ""));
  Arguments arguments(c);
  const test::Shape shape = {c.rows, c.vocab};
  const PaddedTensor logits(arguments.logits, shape, c.dtype, c.padding, c.padding);
  const PaddedTensor apart({}, shape, c.dtype, c.padding, c.padding);
  const PaddedTensor expected_logits({}, shape, c.dtype, c.padding, c.padding);
  const int num_out = c.indices ? c.rows + 2 : c.rows;
  Values sources;
  for (int i = 0; i < num_out; ++i) sources.push_back((i * 2 + 1) % c.rows);
  SamplingOptions options;
  options.seed = 7;
  if (c.indices) options.indices = arguments.add(sources, {num_out}, DType::i32);
  const auto with = [&](const Outputs& to) {
    SamplingOptions all = options;
    all.valid = to.valid.view();
    all.log_probs = to.log_probs.view();
    return all;
  };

  const Outputs expected(num_out), got(num_out);
  LogitsProcessors first = arguments.processors;
  first.temperature = 1.f;
  apply_logits_processors(logits, expected_logits, first);
  sample_from_logits(expected_logits, expected.ids, arguments.filter,
                     arguments.processors.temperature, with(expected));
  const PaddedTensor& processed = c.in_place ? logits : apart;
  sample_processed(logits, processed, got.ids, arguments.processors, arguments.filter, with(got));
  synchronize(test::test_device());

  EXPECT_EQ(got.ids.raw(), expected.ids.raw());
  EXPECT_EQ(got.valid.raw(), expected.valid.raw());
  EXPECT_EQ(got.log_probs.raw(), expected.log_probs.raw());
  const Values now = processed.values(), then = expected_logits.values();
  for (std::size_t i = 0; i < now.size(); ++i) {
    ASSERT_TRUE(now[i] == then[i] || (std::isnan(now[i]) && std::isnan(then[i]))) << i;
  }
  EXPECT_TRUE(processed.padding_intact());
  if (c.rows > 3 && !c.indices) {
    const Values valid = got.valid.values();
    EXPECT_EQ(valid[static_cast<std::size_t>(c.rows - 1)], 0);  // nothing allowed
    EXPECT_EQ(valid[static_cast<std::size_t>(c.rows - 2)], 0);  // a NaN
    EXPECT_EQ(valid[static_cast<std::size_t>(c.rows - 3)], 1);  // masked
    EXPECT_EQ(valid[0], 1);
  }
}

constexpr FilterOrder kTopKFirst = FilterOrder::top_k_first, kJoint = FilterOrder::joint;

// The emulator has four multiprocessors: five rows are one kernel there, three are two.
TEST(SampleProcessed, IsTheTwoCalls) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const int rows : {3, 5}) {
      expect_two_calls({rows, 65, dtype, 1, false, true, false, kTopKFirst});
      expect_two_calls({rows, 320, dtype, 0, true, false, false, kJoint});
    }
    expect_two_calls({5, 4136, dtype, 8, false, true, false, kTopKFirst});  // two pieces of biases
    expect_two_calls({6, 130, dtype, 0, false, true, true, kTopKFirst});
  }
}

// One kernel where there are no biases.
TEST(SampleProcessed, CandidatesOfLongRows) {
  const int vocab = test::on_gpu() ? 128256 : 20000;
  const int rows = test::on_gpu() ? 150 : 6;
  expect_two_calls({rows, vocab, DType::bf16, 0, true, false, false, kTopKFirst});
  expect_two_calls({rows, vocab, DType::f32, 4, false, false, false, kJoint});
  expect_two_calls({rows, vocab + 1, DType::f16, 1, true, false, false, kTopKFirst});
  expect_two_calls({rows, vocab, DType::f16, 0, true, true, false, kTopKFirst});
}

TEST(SampleProcessed, Empty) {
  const auto logits = TestTensor::poisoned({0, 5}, DType::f32);
  sample_processed(logits, logits, TestTensor::poisoned({0}, DType::i32), {});
}

TEST(SampleProcessed, BadInputIsNamed) {
  const auto logits = TestTensor::random({2, 40}, DType::f32, 1);
  const auto out = TestTensor::poisoned({2, 40}, DType::f32);
  const auto half = TestTensor::poisoned({2, 40}, DType::f16);
  const auto ids = TestTensor::poisoned({2}, DType::i32);
  const auto three = TestTensor::poisoned({3}, DType::i32);
  const auto clean = out.raw(), clean_ids = ids.raw();
  LogitsProcessors cold, lone;
  cold.temperature = -1.f;
  lone.bias_ids = logits.view();
  using enum ErrorCode;
  test::expect_errors({
      {[&] { sample_processed(logits, half, ids, {}); }, wrong_type,
       "sample_processed: processed: got f16, expected f32"},
      {[&] { sample_processed(logits, out, three, {}); }, invalid_argument,
       "sample_processed: ids: got 3 in dimension 0 (shape [3]), expected 2 (one element a row)"},
      {[&] { sample_processed(logits, out, ids, cold); }, invalid_argument,
       "sample_processed: temperature: got -1, expected a finite number, 0 or above"},
      {[&] { sample_processed(logits, out, ids, lone); }, invalid_argument,
       "sample_processed: bias_ids: got one of bias_ids and bias_values, expected both or none"},
      {[&] { sample_processed(logits, out, ids, {}, {.top_p = 2.f}); }, invalid_argument,
       "sample_processed: top_p: got 2, expected a number from 0 to 1"},
  });
  EXPECT_EQ(out.raw(), clean);
  EXPECT_EQ(ids.raw(), clean_ids);
}

}  // namespace
}  // namespace quire
