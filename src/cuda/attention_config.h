// Which tile a shape gets: the dispatch table of attention on CUDA.
#pragma once

#include <string>
#include <vector>

#include "attention/attention_types.h"

namespace quire::cuda {

// Empty when attention_sm80 has a kernel for the dtypes and head dims of `shape`, else
// "argument: got X, expected Y".
std::string attention_unsupported(const kernels::AttentionConfig& shape);

// Tiles for `shape` and an average of packed rows a request, best first; the first whose shared
// memory fits the device is taken.
std::vector<kernels::AttentionConfig> attention_candidates(const kernels::AttentionConfig& shape,
                                                           double mean_packed_rows);

int attention_smem_bytes(const kernels::AttentionConfig& config);
int attention_threads(const kernels::AttentionConfig& config);

}  // namespace quire::cuda
