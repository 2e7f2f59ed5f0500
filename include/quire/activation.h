// Gated activations (Shazeer 2020, https://arxiv.org/abs/2002.05202).
#pragma once

#include "quire/tensor.h"

namespace quire {

// out[.., i] = silu(input[.., i]) * input[.., hidden + i]. input [.., 2 * hidden], out [..,
// hidden], f32/f16/bf16, rank >= 1, last dimension contiguous, leading dimensions of any stride.
void silu_and_mul(const TensorView& input, const TensorView& out, Stream stream = {});

}  // namespace quire
