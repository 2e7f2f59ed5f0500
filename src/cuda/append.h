// CUDA backend of appending to a paged KV-cache, and of its index functions.
#pragma once

#include <vector>

#include "append/append_types.h"
#include "cuda/launch.h"

namespace quire::cuda {

// Word size and threads of `config` are chosen here.
void append_paged_kv(kernels::AppendConfig config, const kernels::AppendParams& params,
                     int device_index, Stream stream);
// The first row that is not padding and leads outside the pages, or -1. Waits for the device.
std::int64_t first_bad_row(int device_index, const kernels::SlotLookup& slots, Stream stream);
void batch_indices_positions(const kernels::BatchIndicesParams& params, int device_index,
                             Stream stream);
void seq_lens(const kernels::SeqLensParams& params, int device_index, Stream stream);

std::vector<ListedKernel> append_kernels();

}  // namespace quire::cuda
