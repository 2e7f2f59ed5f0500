// CPU backend of softmax, argmax, the samplers and the filters.
#pragma once

#include "sampling/sampling_types.h"

namespace quire::cpu {

void softmax(kernels::DType dtype, const kernels::SoftmaxParams& params);
void argmax(kernels::DType dtype, const kernels::ArgmaxParams& params);
void token_log_probs(kernels::DType dtype, const kernels::TokenLogProbsParams& params);
// keys: probabilities, or weights for logits.
void sample(kernels::DType dtype, kernels::RowKeys keys, const kernels::SampleParams& params);
// keys: probabilities to renormalise, or ordered for logits to mask.
void filter_rows(kernels::DType dtype, kernels::RowKeys keys,
                 const kernels::FilterRowsParams& params);

}  // namespace quire::cpu
