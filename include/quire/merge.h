// Merging attention states (v, lse) of disjoint KV sets. FlashInfer's "recursive attention":
// v = sum_i v_i * 2^(s_i - s), s = log2 sum_i 2^(s_i). The identity is (v = 0, s = -inf).
#pragma once

#include <optional>

#include "quire/attention.h"

namespace quire {

// v_a, v_b, v_out [n, heads, head_dim] f32/f16/bf16, also mixed; s_a, s_b, s_out [n, heads] f32.
// Last dimension contiguous, s contiguous. Outputs may alias the inputs of the same index.
void merge_state(const TensorView& v_a, const TensorView& s_a, const TensorView& v_b,
                 const TensorView& s_b, const TensorView& v_out, const TensorView& s_out,
                 LseBase base = LseBase::e, Stream stream = {});

// v, s are updated with (v_other, s_other); rows with mask[n] == 0 (u8 or boolean) stay as they
// are.
void merge_state_in_place(const TensorView& v, const TensorView& s, const TensorView& v_other,
                          const TensorView& s_other, const std::optional<TensorView>& mask = {},
                          LseBase base = LseBase::e, Stream stream = {});

// v [n, num_states, heads, head_dim], s [n, num_states, heads] -> v_out, s_out as above.
void merge_states(const TensorView& v, const TensorView& s, const TensorView& v_out,
                  const TensorView& s_out, LseBase base = LseBase::e, Stream stream = {});

}  // namespace quire
