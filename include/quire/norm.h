// Root-mean-square normalisation (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467) and
// layer normalisation (Ba et al. 2016, https://arxiv.org/abs/1607.06450).
//
// input, residual, out: [n, hidden] or [n, heads, head_dim], any strides with a contiguous last
// dimension, which is normalised. input f32/f16/bf16; residual and out as input, out of the
// quantizing functions f8e4m3 or f8e5m2. weight, gamma, beta: [hidden], dtype of input or f32.
#pragma once

#include "quire/fp8_scale.h"
#include "quire/tensor.h"

namespace quire {

// out = input / sqrt(mean(input^2) + eps) * weight. out may be input.
void rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out,
              float eps = 1e-6f, Stream stream = {});

// residual += input; input = rms_norm(residual). Both [n, hidden], changed in place. The residual
// is normalised as it is stored, rounded to its dtype: exactly an addition and then rms_norm.
void fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                        const TensorView& weight, float eps = 1e-6f, Stream stream = {});

// The same with weight + 1, as Gemma's checkpoints store it.
void gemma_rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out,
                    float eps = 1e-6f, Stream stream = {});
void gemma_fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                              const TensorView& weight, float eps = 1e-6f, Stream stream = {});

// out = (input - mean(input)) / sqrt(var(input) + eps) * gamma + beta. gamma and beta have one
// dtype. out may be input.
void layer_norm(const TensorView& input, const TensorView& gamma, const TensorView& beta,
                const TensorView& out, float eps = 1e-6f, Stream stream = {});

struct NormQuantOptions {
  float eps = 1e-6f;
  float weight_bias = 0;  // added to weight: 1 for Gemma
};

// The same to fp8: computed in f32 and rounded once. Computed scales are one a row, f32 [n] or [n,
// heads], contiguous. fused_add_rms_norm_quant changes residual and leaves input as it is.
void rms_norm_quant(const TensorView& input, const TensorView& weight, const TensorView& out,
                    const Fp8Scale& scale, const NormQuantOptions& options = {},
                    Stream stream = {});
void fused_add_rms_norm_quant(const TensorView& input, const TensorView& residual,
                              const TensorView& weight, const TensorView& out,
                              const Fp8Scale& scale, const NormQuantOptions& options = {},
                              Stream stream = {});
void layer_norm_quant(const TensorView& input, const TensorView& gamma, const TensorView& beta,
                      const TensorView& out, const Fp8Scale& scale,
                      const NormQuantOptions& options = {}, Stream stream = {});

}  // namespace quire
