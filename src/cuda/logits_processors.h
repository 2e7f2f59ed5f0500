// CUDA backend of the logits processors.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "logits_processors/logits_processors_types.h"

namespace quire::cuda {

void apply_logits_processors(kernels::DType dtype, const kernels::LogitsProcessorsParams& params,
                             int device_index, Stream stream);

// As one kernel where there are rows enough to fill the device with a block each, else as two.
void sample_processed(kernels::DType dtype, const kernels::SampleProcessedParams& params,
                      int device_index, Stream stream);

std::vector<ListedKernel> logits_processors_kernels();

}  // namespace quire::cuda
