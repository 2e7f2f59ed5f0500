#include "quire/sampling.h"

#include "conversion.h"
#include "sampling_arguments.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

void softmax_rows(Tensor logits, Tensor probs, OptionalTensor temperatures, double temperature,
                  std::int64_t stream) {
  softmax(logits, probs, per_row(temperatures, static_cast<float>(temperature)), to_stream(stream));
}

void largest(Tensor logits, Tensor ids, std::int64_t stream) {
  argmax(logits, ids, to_stream(stream));
}

void log_probs_of_tokens(Tensor logits, Tensor ids, Tensor out, OptionalTensor temperatures,
                         double temperature, std::int64_t stream) {
  token_log_probs(logits, ids, out, per_row(temperatures, static_cast<float>(temperature)),
                  to_stream(stream));
}

void from_all(Tensor probs, Tensor ids, OptionalTensor seeds, std::int64_t seed,
              OptionalTensor offsets, std::int64_t offset, OptionalTensor indices,
              OptionalTensor valid, std::int64_t stream) {
  sample(probs, ids, sampling_options(seeds, seed, offsets, offset, indices, valid),
         to_stream(stream));
}

void from_top_k(Tensor probs, Tensor ids, OptionalTensor top_ks, int top_k, OptionalTensor seeds,
                std::int64_t seed, OptionalTensor offsets, std::int64_t offset,
                OptionalTensor indices, OptionalTensor valid, std::int64_t stream) {
  top_k_sample(probs, ids, per_row(top_ks, top_k),
               sampling_options(seeds, seed, offsets, offset, indices, valid), to_stream(stream));
}

void from_top_p(Tensor probs, Tensor ids, OptionalTensor top_ps, double top_p, OptionalTensor seeds,
                std::int64_t seed, OptionalTensor offsets, std::int64_t offset,
                OptionalTensor indices, OptionalTensor valid, std::int64_t stream) {
  top_p_sample(probs, ids, per_row(top_ps, static_cast<float>(top_p)),
               sampling_options(seeds, seed, offsets, offset, indices, valid), to_stream(stream));
}

void from_min_p(Tensor probs, Tensor ids, OptionalTensor min_ps, double min_p, OptionalTensor seeds,
                std::int64_t seed, OptionalTensor offsets, std::int64_t offset,
                OptionalTensor indices, OptionalTensor valid, std::int64_t stream) {
  min_p_sample(probs, ids, per_row(min_ps, static_cast<float>(min_p)),
               sampling_options(seeds, seed, offsets, offset, indices, valid), to_stream(stream));
}

void from_top_k_top_p(Tensor probs, Tensor ids, OptionalTensor top_ks, int top_k,
                      OptionalTensor top_ps, double top_p, bool joint, OptionalTensor seeds,
                      std::int64_t seed, OptionalTensor offsets, std::int64_t offset,
                      OptionalTensor indices, OptionalTensor valid, std::int64_t stream) {
  top_k_top_p_sample(probs, ids, per_row(top_ks, top_k), per_row(top_ps, static_cast<float>(top_p)),
                     joint ? FilterOrder::joint : FilterOrder::top_k_first,
                     sampling_options(seeds, seed, offsets, offset, indices, valid),
                     to_stream(stream));
}

void from_filtered(Tensor probs, Tensor ids, OptionalTensor top_ks, int top_k,
                   OptionalTensor top_ps, double top_p, OptionalTensor min_ps, double min_p,
                   bool joint, OptionalTensor seeds, std::int64_t seed, OptionalTensor offsets,
                   std::int64_t offset, OptionalTensor indices, OptionalTensor valid,
                   OptionalTensor log_probs, std::int64_t stream) {
  filtered_sample(probs, ids, token_filter(top_ks, top_k, top_ps, top_p, min_ps, min_p, joint),
                  sampling_options(seeds, seed, offsets, offset, indices, valid, log_probs),
                  to_stream(stream));
}

void from_logits(Tensor logits, Tensor ids, OptionalTensor top_ks, int top_k, OptionalTensor top_ps,
                 double top_p, OptionalTensor min_ps, double min_p, bool joint,
                 OptionalTensor temperatures, double temperature, OptionalTensor seeds,
                 std::int64_t seed, OptionalTensor offsets, std::int64_t offset,
                 OptionalTensor indices, OptionalTensor valid, OptionalTensor log_probs,
                 std::int64_t stream) {
  sample_from_logits(logits, ids, token_filter(top_ks, top_k, top_ps, top_p, min_ps, min_p, joint),
                     per_row(temperatures, static_cast<float>(temperature)),
                     sampling_options(seeds, seed, offsets, offset, indices, valid, log_probs),
                     to_stream(stream));
}

void renormalised(Tensor probs, Tensor out, OptionalTensor top_ks, int top_k, OptionalTensor top_ps,
                  double top_p, OptionalTensor min_ps, double min_p, bool joint,
                  std::int64_t stream) {
  renorm_probs(probs, out, token_filter(top_ks, top_k, top_ps, top_p, min_ps, min_p, joint),
               to_stream(stream));
}

void masked(Tensor logits, Tensor out, OptionalTensor top_ks, int top_k, std::int64_t stream) {
  top_k_mask_logits(logits, out, per_row(top_ks, top_k), to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(softmax, translated(softmax_rows));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(argmax, translated(largest));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(token_log_probs, translated(log_probs_of_tokens));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(sample, translated(from_all));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k_sample, translated(from_top_k));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_p_sample, translated(from_top_p));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(min_p_sample, translated(from_min_p));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k_top_p_sample, translated(from_top_k_top_p));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(filtered_sample, translated(from_filtered));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(sample_from_logits, translated(from_logits));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(renorm_probs, translated(renormalised));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k_mask_logits, translated(masked));

}  // namespace quire::python
