// CUDA backend of rotary position embedding.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "rope/rope_types.h"

namespace quire::cuda {

// Of `config` dtype, pos_dtype and interleave are taken, the rest is chosen here.
void rope(kernels::RopeConfig config, const kernels::RopeParams& params, int device_index,
          Stream stream);

std::vector<ListedKernel> rope_kernels();

}  // namespace quire::cuda
