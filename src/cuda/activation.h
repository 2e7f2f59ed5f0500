// CUDA backend of the gated activations.
#pragma once

#include <vector>

#include "activation/activation_types.h"
#include "cuda/launch.h"

namespace quire::cuda {

// Of `config` the dtype is taken, the rest is chosen here.
void silu_and_mul(kernels::SiluAndMulConfig config, const kernels::SiluAndMulParams& params,
                  int device_index, Stream stream);

std::vector<ListedKernel> activation_kernels();

}  // namespace quire::cuda
