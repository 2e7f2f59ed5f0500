// CUDA backend of the gated activations.
#pragma once

#include <vector>

#include "activation/activation_types.h"
#include "cuda/launch.h"

namespace quire::cuda {

// Vector width and threads of `config` are chosen here.
void activate_and_mul(const char* op, kernels::ActivationConfig config,
                      const kernels::ActivationParams& params, int device_index, Stream stream);

std::vector<ListedKernel> activation_kernels();

}  // namespace quire::cuda
