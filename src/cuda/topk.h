// CUDA backend of top-k selection.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "topk/topk_types.h"

namespace quire::cuda {

void top_k(kernels::DType dtype, const kernels::TopkParams& params, int device_index,
           Stream stream);

std::vector<ListedKernel> topk_kernels();

}  // namespace quire::cuda
