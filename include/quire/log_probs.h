// Log-probabilities of tokens.
#pragma once

#include "quire/sampling.h"
#include "quire/tensor.h"

namespace quire {

// out[i, j] = log(softmax(logits[i] / temperature)[ids[i, j]]), in natural logarithms: of tokens
// that were drawn, of a prompt's, of the most probable ones. The distribution is the whole one;
// that of a filter is SamplingOptions::log_probs. logits [n, vocab] f32/f16/bf16, vocab up to 2^23,
// any row stride; ids i32 and out f32, both [n] or both [n, tokens], any row strides, last
// dimension contiguous where there are two. At temperature 0 the largest logit (the lowest index of
// equals) gives 0, others -inf. NaN for an id outside the vocabulary, for a row with a NaN, with
// +inf (but at temperature 0) or of -inf only, and for a negative or non-finite temperature in a
// tensor. Throws Error for shapes, dtypes, devices, and such a temperature given as a number.
void token_log_probs(const TensorView& logits, const TensorView& ids, const TensorView& out,
                     const PerRow<float>& temperature = 1.f, Stream stream = {});

}  // namespace quire
