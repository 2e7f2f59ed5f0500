// Batch attention on the CPU: the same work list and parameters as the CUDA kernels.
#pragma once

#include "attention/attention_types.h"
#include "plan/attention.h"

namespace quire::cpu {

// The tile a shape gets; dtypes and head dims of `shape` are kept, the rest is filled in.
kernels::AttentionConfig attention_config(const kernels::AttentionConfig& shape);

// One worker a thread.
plan::AttentionTile attention_tile(const kernels::AttentionConfig& config);

// All items of params (worker_indptr is not read), then its merges. All pointers are host memory.
void attention(const kernels::AttentionConfig& config, const kernels::AttentionParams& params);

}  // namespace quire::cpu
