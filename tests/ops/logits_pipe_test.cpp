#include "quire/logits_pipe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using enum PipeStage;
using test::TestTensor;
using Values = std::vector<double>;
using Stages = std::vector<PipeStage>;

constexpr int kRows = 5, kVocab = 120;

TEST(LogitsPipe, JoinsWhatOnePassCanDo) {
  const auto passes = [](const Stages& stages, PipeData from, bool fused = true) {
    return LogitsPipe(stages, from, fused).passes();
  };
  constexpr auto kLogits = PipeData::logits, kProbs = PipeData::probs;
  EXPECT_EQ(passes({temperature, softmax}, kLogits), "softmax(temperature)");
  EXPECT_EQ(passes({temperature, softmax, top_k, top_p, sample}, kLogits),
            "sample_from_logits(temperature, top_k, top_p)");
  EXPECT_EQ(passes({top_k, temperature, softmax, top_p, min_p, sample}, kLogits),
            "sample_from_logits(temperature, top_k, top_p, min_p)");
  EXPECT_EQ(passes({softmax, top_p, top_k, sample}, kLogits),
            "sample_from_logits(top_k, top_p, joint)");
  EXPECT_EQ(passes({processors, temperature, top_k, sample}, kLogits),
            "sample_processed(processors, temperature, top_k)");
  EXPECT_EQ(passes({processors, temperature}, kLogits),
            "apply_logits_processors(processors, temperature)");
  EXPECT_EQ(passes({temperature, processors, softmax}, kLogits),
            "apply_logits_processors(temperature) -> apply_logits_processors(processors) -> "
            "softmax()");
  EXPECT_EQ(passes({temperature, top_k, softmax, min_p}, kLogits),
            "top_k_mask_logits(top_k) -> softmax(temperature) -> renorm_probs(min_p)");
  EXPECT_EQ(passes({temperature, softmax, min_p, top_p, sample}, kLogits),
            "softmax(temperature) -> renorm_probs(min_p) -> filtered_sample(top_p)");
  EXPECT_EQ(passes({top_k, top_p, min_p}, kProbs), "renorm_probs(top_k, top_p, min_p)");
  EXPECT_EQ(passes({top_p, sample}, kProbs), "filtered_sample(top_p)");
  EXPECT_EQ(passes({sample}, kLogits), "sample_from_logits()");
  EXPECT_EQ(passes({temperature, top_k, softmax, sample}, kLogits, false),
            "apply_logits_processors(temperature) -> top_k_mask_logits(top_k) -> softmax() -> "
            "filtered_sample()");
}

// Inputs, and all that pipelines may want.
struct Data {
  TestTensor logits = TestTensor::random({kRows, kVocab}, DType::bf16, 1, 2);
  TestTensor temperatures = TestTensor::from({0.5, 1, 2, 0.75, 1.5}, {kRows}, DType::f32);
  TestTensor top_ks = TestTensor::from({7, 0, 50, 1, 20}, {kRows}, DType::i32);
  TestTensor seeds = TestTensor::from({1, 2, 3, 4, 5}, {kRows}, DType::i64);
  TestTensor mask = TestTensor::from(Values(kRows * 4, 0x5a5a5a5a), {kRows, 4}, DType::i32);
  TestTensor counts = TestTensor::from(Values(kRows * kVocab, 1), {kRows, kVocab}, DType::i32);
  TestTensor logits_scratch = TestTensor::poisoned({kRows, kVocab}, DType::bf16);
  TestTensor probs_scratch = TestTensor::poisoned({kRows, kVocab}, DType::f32);
  PipeArguments arguments;

  Data() {
    arguments.temperature = temperatures.view();
    arguments.top_k = PerRow<int>(top_ks.view());
    arguments.top_p = 0.8f;
    arguments.min_p = 0.02f;
    arguments.processors.allowed_mask = mask.view();
    arguments.processors.output_counts = counts.view();
    arguments.processors.presence_penalty = 0.5f;
    arguments.sampling.seed = PerRow<std::int64_t>(seeds.view());
    arguments.logits_scratch = logits_scratch.view();
    arguments.probs_scratch = probs_scratch.view();
  }
};

// Ids, and the logarithms of their probabilities, of a run.
struct Draw {
  Values ids, log_probs;
};

template <class Call>
Draw drawn(const SamplingOptions& options, Call&& call) {
  const TestTensor ids = TestTensor::poisoned({kRows}, DType::i32);
  const TestTensor log_probs = TestTensor::poisoned({kRows}, DType::f32);
  SamplingOptions all = options;
  all.log_probs = log_probs.view();
  call(ids, all);
  synchronize(test::test_device());
  return {ids.values(), log_probs.values()};
}

Draw drawn(const LogitsPipe& pipe, const TensorView& in, const PipeArguments& arguments) {
  return drawn(arguments.sampling, [&](const TestTensor& ids, const SamplingOptions& options) {
    PipeArguments all = arguments;
    all.sampling = options;
    pipe.run(in, ids, all);
  });
}

TEST(LogitsPipe, OnePassIsTheOperator) {
  const Data data;
  const PipeArguments& a = data.arguments;
  const Draw got = drawn(
      LogitsPipe({processors, temperature, softmax, top_k, top_p, min_p, sample}), data.logits, a);
  const TestTensor processed = TestTensor::poisoned({kRows, kVocab}, DType::bf16);
  const Draw expected =
      drawn(a.sampling, [&](const TensorView& ids, const SamplingOptions& options) {
        LogitsProcessors all = a.processors;
        all.temperature = a.temperature;
        sample_processed(data.logits, processed, ids, all, {a.top_k, a.top_p, a.min_p}, options);
      });
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(got.log_probs, expected.log_probs);

  const TestTensor probs = TestTensor::poisoned({kRows, kVocab}, DType::f32);
  const TestTensor softmaxed = TestTensor::poisoned({kRows, kVocab}, DType::f32);
  LogitsPipe({temperature, softmax}).run(data.logits, probs, a);
  quire::softmax(data.logits, softmaxed, a.temperature);
  EXPECT_EQ(probs.values(), softmaxed.values());
}

// The single operators one after another: what may be drawn, and how probable it is, are the same.
TEST(LogitsPipe, JoinedStagesMeanTheSame) {
  const std::vector<Stages> pipes = {{temperature, softmax, top_k, top_p, sample},
                                     {top_k, temperature, softmax, min_p, sample},
                                     {temperature, top_k, softmax, top_p, min_p, sample},
                                     {softmax, top_p, top_k, sample},
                                     {processors, temperature, softmax, top_p, sample},
                                     {temperature, softmax, min_p, top_p, sample},
                                     {softmax, sample}};
  const Data data;
  for (const Stages& stages : pipes) {
    const LogitsPipe fused(stages);
    SCOPED_TRACE(fused.passes());
    Stages all_but_sample(stages.begin(), stages.end() - 1);
    const LogitsPipe steps(all_but_sample, PipeData::logits, /*fused=*/false);
    const TestTensor probs = TestTensor::poisoned({kRows, kVocab}, DType::f32);
    steps.run(data.logits, probs, data.arguments);
    const Draw got = drawn(fused, data.logits, data.arguments);
    const Values allowed = probs.values();
    for (std::size_t r = 0; r < kRows; ++r) {
      ASSERT_GE(got.ids[r], 0);
      const double p = allowed[r * kVocab + static_cast<std::size_t>(got.ids[r])];
      // The steps store scaled logits in bf16.
      EXPECT_NEAR(got.log_probs[r], std::log(p), 0.05) << r;
    }
  }
}

TEST(LogitsPipe, SeveralPasses) {
  const Data data;
  const PipeArguments& a = data.arguments;
  const Draw got = drawn(LogitsPipe({temperature, softmax, min_p, top_p, sample}), data.logits, a);
  const TestTensor probs = TestTensor::poisoned({kRows, kVocab}, DType::f32);
  quire::softmax(data.logits, probs, a.temperature);
  renorm_probs(probs, probs, {.min_p = a.min_p});
  const Draw expected =
      drawn(a.sampling, [&](const TensorView& ids, const SamplingOptions& options) {
        filtered_sample(probs, ids, {.top_p = a.top_p}, options);
      });
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(got.log_probs, expected.log_probs);

  // To logits, through the output; and to probabilities, with the input's own memory between.
  const TestTensor out = TestTensor::poisoned({kRows, kVocab}, DType::bf16);
  const TestTensor steps = TestTensor::poisoned({kRows, kVocab}, DType::bf16);
  LogitsPipe({temperature, processors, top_k}).run(data.logits, out, a);
  apply_logits_processors(data.logits, steps, {.temperature = a.temperature});
  apply_logits_processors(steps, steps, a.processors);
  top_k_mask_logits(steps, steps, a.top_k);
  EXPECT_EQ(out.values(), steps.values());
  PipeArguments in_place = a;
  in_place.logits_scratch = out.view();
  const TestTensor result = TestTensor::poisoned({kRows, kVocab}, DType::f32);
  LogitsPipe({top_k, softmax}).run(out, result, in_place);
  quire::softmax(steps, probs);
  EXPECT_EQ(result.values(), probs.values());
}

TEST(LogitsPipe, IndicesBelongToTheDraw) {
  const Data data;
  PipeArguments a = data.arguments;
  const TestTensor indices = TestTensor::ints({4, 0, 0, 3, 1});
  a.sampling.indices = indices.view();
  const Draw got = drawn(LogitsPipe({temperature, softmax, top_k, sample}), data.logits, a);
  const Draw expected =
      drawn(a.sampling, [&](const TensorView& ids, const SamplingOptions& options) {
        sample_from_logits(data.logits, ids, {.top_k = a.top_k}, a.temperature, options);
      });
  EXPECT_EQ(got.ids, expected.ids);
}

TEST(LogitsPipe, StagesThatDoNotFit) {
  const auto fails = [](const Stages& stages, PipeData from, const char* text) {
    test::expect_error([&] { LogitsPipe(stages, from); }, ErrorCode::invalid_argument,
                       std::string("LogitsPipe: ") + text);
  };
  constexpr auto kLogits = PipeData::logits, kProbs = PipeData::probs;
  fails({}, kLogits, "stages: got none, expected one or more");
  fails({top_p}, kLogits, "stages: got top_p of logits, expected probs before it");
  fails({softmax, min_p, temperature}, kLogits,
        "stages: got temperature of probs, expected logits before it");
  fails({softmax}, kProbs, "stages: got softmax of probs, expected logits before it");
  fails({sample, top_k}, kProbs, "stages: got top_k of ids, expected logits or probs before it");
  fails({top_k, softmax, top_k}, kLogits,
        "stages: got top_k more than once, expected once at most");
  fails({sample}, PipeData::ids, "input: got ids, expected logits or probs");
}

TEST(LogitsPipe, BadArgumentsChangeNothing) {
  const Data data;
  const TestTensor ids = TestTensor::poisoned({kRows}, DType::i32);
  const TestTensor six = TestTensor::poisoned({6}, DType::f32);
  const auto clean = data.probs_scratch.raw(), clean_ids = ids.raw();
  const LogitsPipe pipe({temperature, softmax, min_p, top_p, sample});
  const auto with = [&](auto member, auto value) {
    PipeArguments arguments = data.arguments;
    arguments.*member = value;
    return arguments;
  };
  using A = PipeArguments;
  using enum ErrorCode;
  test::expect_errors({
      {[&] { pipe.run(data.logits, ids, with(&A::probs_scratch, std::nullopt)); }, invalid_argument,
       "LogitsPipe: probs_scratch: got none, expected a tensor of the input's shape"},
      {[&] { pipe.run(data.logits, ids, with(&A::top_p, PerRow<float>(2.f))); }, invalid_argument,
       "filtered_sample: top_p: got 2, expected a number from 0 to 1"},
      {[&] { pipe.run(data.logits, ids, with(&A::top_p, PerRow<float>(six.view()))); },
       invalid_argument,
       "filtered_sample: top_p: got 6 in dimension 0 (shape [6]), expected 5 (rows)"},
      {[&] { pipe.run(data.logits, six, data.arguments); }, invalid_argument,
       "filtered_sample: out: got 6 in dimension 0 (shape [6]), expected 5 (rows)"},
      {[&] { pipe.run(data.logits, ids, with(&A::probs_scratch, data.logits_scratch.view())); },
       wrong_type, "softmax: probs: got bf16, expected f32"},
      {[&] {
         LogitsPipe({temperature, processors, sample})
             .run(data.logits, ids, with(&A::temperature, PerRow<float>(0.f)));
       },
       invalid_argument,
       "LogitsPipe: temperature: got 0, expected above 0 where no softmax or draw takes it"},
  });
  EXPECT_EQ(data.probs_scratch.raw(), clean);
  EXPECT_EQ(ids.raw(), clean_ids);
}

}  // namespace
}  // namespace quire
