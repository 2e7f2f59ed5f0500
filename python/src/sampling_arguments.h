// The samplers' arguments as Python passes them.
#pragma once

#include "conversion.h"

namespace quire::python {

using OptionalTensor = std::optional<TensorView>;

inline SamplingOptions sampling_options(const OptionalTensor& seeds, std::int64_t seed,
                                        const OptionalTensor& offsets, std::int64_t offset,
                                        const OptionalTensor& indices, const OptionalTensor& valid,
                                        const OptionalTensor& log_probs = {}) {
  SamplingOptions options;
  options.seed = per_row(seeds, seed);
  options.offset = per_row(offsets, offset);
  options.indices = indices;
  options.valid = valid;
  options.log_probs = log_probs;
  return options;
}

inline TokenFilter token_filter(const OptionalTensor& top_ks, int top_k,
                                const OptionalTensor& top_ps, double top_p,
                                const OptionalTensor& min_ps, double min_p, bool joint) {
  return {.top_k = per_row(top_ks, top_k),
          .top_p = per_row(top_ps, static_cast<float>(top_p)),
          .min_p = per_row(min_ps, static_cast<float>(min_p)),
          .order = joint ? FilterOrder::joint : FilterOrder::top_k_first};
}

}  // namespace quire::python
