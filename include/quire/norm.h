// Root-mean-square normalisation (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467).
#pragma once

#include "quire/tensor.h"

namespace quire {

// out = input / sqrt(mean(input^2) + eps) * weight over the last dimension.
// input, out [n, hidden] or [n, heads, head_dim], f32/f16/bf16, any strides with a contiguous last
// dimension; weight [hidden] of the same dtype. out may be input.
void rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out,
              float eps = 1e-6f, Stream stream = {});

// residual += input; input = rms_norm(residual). Both [n, hidden], changed in place. The residual
// is normalised as it is stored, rounded to its dtype: exactly an addition and then rms_norm.
void fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                        const TensorView& weight, float eps = 1e-6f, Stream stream = {});

}  // namespace quire
