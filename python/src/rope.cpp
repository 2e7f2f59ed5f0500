#include "quire/rope.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

void rope(Tensor q, Tensor k, Tensor pos_ids, Tensor q_out, Tensor k_out, int rotary_dim,
          bool interleave, double rope_scale, double rope_theta, bool llama31,
          double low_freq_factor, double high_freq_factor, double old_context_len,
          std::int64_t stream) {
  RopeOptions options{.rotary_dim = rotary_dim,
                      .interleave = interleave,
                      .rope_scale = static_cast<float>(rope_scale),
                      .rope_theta = static_cast<float>(rope_theta)};
  if (llama31) {
    options.llama31 = Llama31Rope{.low_freq_factor = static_cast<float>(low_freq_factor),
                                  .high_freq_factor = static_cast<float>(high_freq_factor),
                                  .old_context_len = static_cast<float>(old_context_len)};
  }
  apply_rope_pos_ids(q, k, pos_ids, q_out, k_out, options, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(apply_rope_pos_ids, translated(rope));

}  // namespace quire::python
