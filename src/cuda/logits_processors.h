// CUDA backend of the logits processors.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "logits_processors/logits_processors_types.h"

namespace quire::cuda {

void apply_logits_processors(kernels::DType dtype, const kernels::LogitsProcessorsParams& params,
                             int device_index, Stream stream);

std::vector<ListedKernel> logits_processors_kernels();

}  // namespace quire::cuda
