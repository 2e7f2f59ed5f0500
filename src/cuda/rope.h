// CUDA backend of rotary position embedding.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "rope/rope_types.h"

namespace quire::cuda {

// Vector width and threads of `config` are chosen here.
void rope(kernels::RopeConfig config, const kernels::RopeParams& params, int device_index,
          Stream stream);

std::vector<ListedKernel> rope_kernels();

}  // namespace quire::cuda
