// Steps from logits to probabilities or tokens, strung together once, checked, and joined to as few
// passes over the rows as their meaning allows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quire/logits_processors.h"
#include "quire/sampling.h"
#include "quire/tensor.h"

namespace quire {

enum class PipeData : std::uint8_t { logits, probs, ids };

enum class PipeStage : std::uint8_t {
  processors,   // of logits: bias, penalties, masks
  temperature,  // of logits
  softmax,      // logits to probabilities
  top_k,        // of logits: others become -inf; of probabilities: the rest is renormalised
  top_p,        // of probabilities; before top_k it counts mass in the whole distribution
  min_p,        // of probabilities
  sample,       // logits or probabilities to tokens; the last one
};

// Of the stages that a pipeline has; others are not looked at. Values for a row belong to the
// output row where the draw uses them, else to the row of the input.
struct PipeArguments {
  LogitsProcessors processors;     // but for their temperature
  PerRow<float> temperature{1.f};  // 0, the largest logit, where a softmax or draw takes it
  PerRow<int> top_k{0};
  PerRow<float> top_p{1.f};
  PerRow<float> min_p{0.f};
  SamplingOptions sampling;
  // [n, vocab], what passes leave for the next one: of the input's dtype (the input itself, too),
  // and f32.
  std::optional<TensorView> logits_scratch, probs_scratch;
};

class LogitsPipe {
 public:
  // Throws invalid_argument for stages that do not fit together: each takes what the one before
  // gives, and stands once at most. Without `fused` each stage is a pass.
  explicit LogitsPipe(std::span<const PipeStage> stages, PipeData input = PipeData::logits,
                      bool fused = true);
  LogitsPipe(std::initializer_list<PipeStage> stages, PipeData input = PipeData::logits,
             bool fused = true)
      : LogitsPipe(std::span(stages.begin(), stages.size()), input, fused) {}

  PipeData input() const { return input_; }
  PipeData output() const;
  bool needs_logits_scratch() const;
  bool needs_probs_scratch() const;
  // "sample_from_logits(temperature, top_k, top_p)", one operator a pass, joined by " -> ".
  std::string passes() const;

  // in [n, vocab]: logits f32/f16/bf16, or probabilities f32. out: logits of in's dtype or
  // probabilities f32 [n, vocab], or ids i32 [n]. Errors are those of the operators of the passes,
  // found before the first of them runs, but for the values of sampling.indices on the CPU.
  void run(const TensorView& in, const TensorView& out, const PipeArguments& arguments = {},
           Stream stream = {}) const;

 private:
  struct Pass {
    PipeData from, to;
    std::uint8_t stages = 0;  // bit s: PipeStage s
    FilterOrder order = FilterOrder::top_k_first;

    bool has(PipeStage stage) const { return (stages >> static_cast<int>(stage) & 1) != 0; }
    const char* op() const;
  };
  struct Call;

  static std::optional<Pass> joined(std::span<const PipeStage> stages, PipeData from, PipeData to);
  static void run_pass(const Pass& pass, const TensorView& in, const TensorView& out,
                       const Call& call);

  PipeData input_;
  std::vector<Pass> passes_;
};

}  // namespace quire
