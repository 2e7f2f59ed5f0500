// Putting keys together from their parts.
#pragma once

#include "quire/tensor.h"

namespace quire {

// The keys of MLA prefill (DeepSeek-AI 2024, https://arxiv.org/abs/2405.04434): k[n, h] = k_nope[n,
// h] and then k_rope[n], which all heads share. k_nope [n, heads, nope_dim], k_rope [n, 1,
// rope_dim] or [n, rope_dim], k [n, heads, nope_dim + rope_dim]; one dtype, any, any strides with a
// contiguous last dimension.
void concat_mla_k(const TensorView& k_nope, const TensorView& k_rope, const TensorView& k,
                  Stream stream = {});

}  // namespace quire
