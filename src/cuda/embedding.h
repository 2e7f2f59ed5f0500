// CUDA backend of the row gather.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "embedding/embedding_types.h"

namespace quire::cuda {

void gather_rows(const kernels::GatherRowsParams& params, int device_index, Stream stream);

std::vector<ListedKernel> embedding_kernels();

}  // namespace quire::cuda
