// Gated activations (Shazeer 2020, https://arxiv.org/abs/2002.05202).
//
// out[.., i] = act(input[.., i]) * input[.., hidden + i]. input [.., 2 * hidden], out [.., hidden],
// rank >= 1, last dimension contiguous, leading dimensions of any stride. input f32/f16/bf16; out
// the same, of the quantizing functions f8e4m3 or f8e5m2.
#pragma once

#include "quire/fp8_scale.h"
#include "quire/tensor.h"

namespace quire {

// x * sigmoid(x)
void silu_and_mul(const TensorView& input, const TensorView& out, Stream stream = {});
// x / 2 * (1 + erf(x / sqrt(2)))
void gelu_and_mul(const TensorView& input, const TensorView& out, Stream stream = {});
// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
void gelu_tanh_and_mul(const TensorView& input, const TensorView& out, Stream stream = {});

// The same to fp8: computed in f32 and rounded once. Computed scales are one for 128 neighbours in
// a row, f32 [.., hidden / 128] of any strides; hidden is a multiple of 128 then.
void silu_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                        Stream stream = {});
void gelu_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                        Stream stream = {});
void gelu_tanh_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                             Stream stream = {});

}  // namespace quire
