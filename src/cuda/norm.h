// CUDA backend of the root-mean-square norms.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "norm/norm_types.h"

namespace quire::cuda {

// Of `config` dtype and fused_add are taken, the rest is chosen here.
void rms_norm(kernels::RmsNormConfig config, const kernels::RmsNormParams& params, int device_index,
              Stream stream);

std::vector<ListedKernel> norm_kernels();

}  // namespace quire::cuda
