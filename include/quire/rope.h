// Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864).
#pragma once

#include <optional>

#include "quire/tensor.h"

namespace quire {

// Llama 3.1's frequency scaling: wavelengths above old_context_len / low_freq_factor are divided by
// the rope_scale, those below old_context_len / high_freq_factor kept, those between interpolated.
struct Llama31Rope {
  float low_freq_factor = 1.f;
  float high_freq_factor = 4.f;
  float old_context_len = 8192.f;
};

struct RopeOptions {
  int rotary_dim = 0;       // even, <= head_dim; 0: head_dim. Dims past it are copied
  bool interleave = false;  // true: pairs (2i, 2i + 1); false: halves (i, i + rotary_dim / 2)
  float rope_scale = 1.f;   // positions are divided by this (Llama31Rope: see there)
  float rope_theta = 1e4f;
  std::optional<Llama31Rope> llama31;
};

// q [nnz, num_qo_heads, head_dim], k [nnz, num_kv_heads, head_dim], f32/f16/bf16, any strides with
// a contiguous last dimension; pos_ids i32 or i64 [nnz]. q_out, k_out: same shapes; passing q and k
// themselves works in place.
void apply_rope_pos_ids(const TensorView& q, const TensorView& k, const TensorView& pos_ids,
                        const TensorView& q_out, const TensorView& k_out,
                        const RopeOptions& options = {}, Stream stream = {});

}  // namespace quire
