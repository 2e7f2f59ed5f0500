// What engines do to logits before they sample, in one pass: logit bias, penalties of tokens that
// have appeared, temperature and grammar masks.
#pragma once

#include <optional>

#include "quire/sampling.h"

namespace quire {

// Applied to each logit x of token t in this order; what is not given does nothing.
//   1. x += bias[t] for every pair (t, bias) of the row
//   2. t in the prompt or among the outputs: x = x > 0 ? x / repetition : x * repetition
//      (Keskar et al. 2019)
//   3. x -= frequency * count[t];  x -= presence if count[t] > 0
//   4. x /= temperature; 0 leaves x, for samplers that take temperature 0 themselves
//   5. t is not allowed by the mask: x = -inf
struct LogitsProcessors {
  // i32 [n, m] and f32 [n, m]: tokens and what is added to them. Tokens outside the vocabulary (-1)
  // are skipped, repeated ones add up.
  std::optional<TensorView> bias_ids, bias_values;
  std::optional<TensorView> prompt_mask;    // i32 [n, words]: bit t % 32 of word t / 32, t was seen
  std::optional<TensorView> output_counts;  // i32 [n, vocab]: how often t was generated
  PerRow<float> repetition_penalty{1.f};    // above 0
  PerRow<float> presence_penalty{0.f};
  PerRow<float> frequency_penalty{0.f};
  PerRow<float> temperature{1.f};
  // i32 [n, words], words >= ceil(vocab / 32): bit t % 32 of word t / 32 is 1 for allowed tokens,
  // as xgrammar and llguidance pack them.
  std::optional<TensorView> allowed_mask;
};

// logits and out [n, vocab] f32/f16/bf16 of one dtype, computed in f32; out may be logits. A single
// penalty or temperature out of its range is an error, a tensor's elements are used as they are.
void apply_logits_processors(const TensorView& logits, const TensorView& out,
                             const LogitsProcessors& processors, Stream stream = {});

// The same into `processed`, but without the temperature, and then sample_from_logits() of that at
// the temperature of the processors (0: the largest logit). The result is that of the two calls,
// bit for bit.
void sample_processed(const TensorView& logits, const TensorView& processed, const TensorView& ids,
                      const LogitsProcessors& processors, const TokenFilter& filter = {},
                      const SamplingOptions& options = {}, Stream stream = {});

}  // namespace quire
