// CUDA backend of appending to a paged KV-cache, and of its index functions.
#pragma once

#include <vector>

#include "append/append_types.h"
#include "cuda/launch.h"

namespace quire::cuda {

void append_paged_kv(const kernels::AppendParams& params, int device_index, Stream stream);
void batch_indices_positions(const kernels::BatchIndicesParams& params, int device_index,
                             Stream stream);
void seq_lens(const kernels::SeqLensParams& params, int device_index, Stream stream);

std::vector<ListedKernel> append_kernels();

}  // namespace quire::cuda
