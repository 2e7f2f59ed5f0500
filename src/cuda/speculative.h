// CUDA backend of speculative sampling.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "speculative/speculative_types.h"

namespace quire::cuda {

void chain_speculative(const kernels::ChainParams& params, int device_index, Stream stream);
void verify_tree(const kernels::TreeParams& params, int device_index, Stream stream);

std::vector<ListedKernel> speculative_kernels();

}  // namespace quire::cuda
