// CUDA backend of the normalisations.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "norm/norm_types.h"

namespace quire::cuda {

// Vector width and threads of `config` are chosen here.
void normalize(kernels::NormConfig config, const kernels::NormParams& params, int device_index,
               Stream stream);

std::vector<ListedKernel> norm_kernels();

}  // namespace quire::cuda
