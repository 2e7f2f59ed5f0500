// CUDA backend of token_log_probs.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "sampling/log_probs_types.h"

namespace quire::cuda {

void token_log_probs(kernels::DType dtype, const kernels::TokenLogProbsParams& params,
                     int device_index, Stream stream);

std::vector<ListedKernel> token_log_probs_kernels();

}  // namespace quire::cuda
