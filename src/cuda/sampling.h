// CUDA backend of softmax, argmax and the samplers.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "sampling/sampling_types.h"

namespace quire::cuda {

void softmax(kernels::DType dtype, const kernels::SoftmaxParams& params, int device_index,
             Stream stream);
void argmax(kernels::DType dtype, const kernels::ArgmaxParams& params, int device_index,
            Stream stream);
void sample(kernels::TokenFilter filter, const kernels::SampleParams& params, int device_index,
            Stream stream);

std::vector<ListedKernel> sampling_kernels();

}  // namespace quire::cuda
