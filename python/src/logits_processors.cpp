#include "quire/logits_processors.h"

#include "conversion.h"
#include "sampling_arguments.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

LogitsProcessors to_processors(const OptionalTensor& bias_ids, const OptionalTensor& bias_values,
                               const OptionalTensor& prompt_mask,
                               const OptionalTensor& output_counts,
                               const OptionalTensor& allowed_mask, const PerRow<float>& repetition,
                               const PerRow<float>& presence, const PerRow<float>& frequency,
                               const PerRow<float>& temperature) {
  return {.bias_ids = bias_ids,
          .bias_values = bias_values,
          .prompt_mask = prompt_mask,
          .output_counts = output_counts,
          .repetition_penalty = repetition,
          .presence_penalty = presence,
          .frequency_penalty = frequency,
          .temperature = temperature,
          .allowed_mask = allowed_mask};
}

PerRow<float> floats(const OptionalTensor& tensor, double value) {
  return per_row(tensor, static_cast<float>(value));
}

void process(Tensor logits, Tensor out, OptionalTensor bias_ids, OptionalTensor bias_values,
             OptionalTensor prompt_mask, OptionalTensor output_counts, OptionalTensor allowed_mask,
             OptionalTensor repetitions, double repetition, OptionalTensor presences,
             double presence, OptionalTensor frequencies, double frequency,
             OptionalTensor temperatures, double temperature, std::int64_t stream) {
  apply_logits_processors(
      logits, out,
      to_processors(bias_ids, bias_values, prompt_mask, output_counts, allowed_mask,
                    floats(repetitions, repetition), floats(presences, presence),
                    floats(frequencies, frequency), floats(temperatures, temperature)),
      to_stream(stream));
}

void process_and_draw(Tensor logits, Tensor ids, Tensor processed, OptionalTensor bias_ids,
                      OptionalTensor bias_values, OptionalTensor prompt_mask,
                      OptionalTensor output_counts, OptionalTensor allowed_mask,
                      OptionalTensor repetitions, double repetition, OptionalTensor presences,
                      double presence, OptionalTensor frequencies, double frequency,
                      OptionalTensor temperatures, double temperature, OptionalTensor top_ks,
                      int top_k, OptionalTensor top_ps, double top_p, OptionalTensor min_ps,
                      double min_p, bool joint, OptionalTensor seeds, std::int64_t seed,
                      OptionalTensor offsets, std::int64_t offset, OptionalTensor indices,
                      OptionalTensor valid, OptionalTensor log_probs, std::int64_t stream) {
  sample_processed(logits, processed, ids,
                   to_processors(bias_ids, bias_values, prompt_mask, output_counts, allowed_mask,
                                 floats(repetitions, repetition), floats(presences, presence),
                                 floats(frequencies, frequency), floats(temperatures, temperature)),
                   token_filter(top_ks, top_k, top_ps, top_p, min_ps, min_p, joint),
                   sampling_options(seeds, seed, offsets, offset, indices, valid, log_probs),
                   to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(apply_logits_processors, translated(process));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(sample_processed, translated(process_and_draw));

}  // namespace quire::python
