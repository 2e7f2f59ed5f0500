// Merging attention states on CUDA.
#pragma once

#include <vector>

#include "attention/merge_types.h"
#include "cuda/launch.h"

namespace quire::cuda {

// config.dtype is read; the width of access and the block are chosen here.
void merge_states(kernels::MergeStatesConfig config, const kernels::MergeStatesParams& params,
                  int device_index, Stream stream);

std::vector<ListedKernel> merge_kernels();

}  // namespace quire::cuda
