#include "quire/logits_processors.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using OptionalTensor = std::optional<TensorView>;

void process(Tensor logits, Tensor out, OptionalTensor bias_ids, OptionalTensor bias_values,
             OptionalTensor prompt_mask, OptionalTensor output_counts, OptionalTensor allowed_mask,
             OptionalTensor repetitions, double repetition, OptionalTensor presences,
             double presence, OptionalTensor frequencies, double frequency,
             OptionalTensor temperatures, double temperature, std::int64_t stream) {
  LogitsProcessors processors;
  processors.bias_ids = bias_ids;
  processors.bias_values = bias_values;
  processors.prompt_mask = prompt_mask;
  processors.output_counts = output_counts;
  processors.allowed_mask = allowed_mask;
  processors.repetition_penalty = per_row(repetitions, static_cast<float>(repetition));
  processors.presence_penalty = per_row(presences, static_cast<float>(presence));
  processors.frequency_penalty = per_row(frequencies, static_cast<float>(frequency));
  processors.temperature = per_row(temperatures, static_cast<float>(temperature));
  apply_logits_processors(logits, out, processors, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(apply_logits_processors, translated(process));

}  // namespace quire::python
