// CUDA backend of softmax, argmax, the samplers and the filters.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "sampling/sampling_types.h"

namespace quire::cuda {

void softmax(kernels::DType dtype, const kernels::SoftmaxParams& params, int device_index,
             Stream stream);
void argmax(kernels::DType dtype, const kernels::ArgmaxParams& params, int device_index,
            Stream stream);
void token_log_probs(kernels::DType dtype, const kernels::TokenLogProbsParams& params,
                     int device_index, Stream stream);
// keys: probabilities, or weights for logits.
void sample(kernels::DType dtype, kernels::RowKeys keys, const kernels::SampleParams& params,
            int device_index, Stream stream);
// keys: probabilities to renormalise, or ordered for logits to mask.
void filter_rows(kernels::DType dtype, kernels::RowKeys keys,
                 const kernels::FilterRowsParams& params, int device_index, Stream stream);

std::vector<ListedKernel> sampling_kernels();

}  // namespace quire::cuda
