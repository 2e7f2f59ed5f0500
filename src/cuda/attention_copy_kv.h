// Copying K and V of prompts before their attention.
#pragma once

#include "attention/attention_copy_kv_types.h"
#include "quire/device.h"

namespace quire::cuda {

// A copy of K and V that a plan has room for: see CopyKvParams. kv_dtype: of what is copied.
struct KvCopy {
  kernels::DType kv_dtype;
  const kernels::i32* token_indptr;
  kernels::i32 num_tokens;
  void* k;
  void* v;
};

// `params` with the copy, of the kernel of `config`, in the place of K and V.
kernels::AttentionParams over_copy(const KvCopy& copy, const kernels::AttentionConfig& config,
                                   const kernels::AttentionParams& params);

// Makes the copy from K and V of `params`. config: of the kernel that reads it, whose head dims and
// alignment are those of K and V. All pointers are device pointers.
void copy_kv(int device_index, const KvCopy& copy, const kernels::AttentionConfig& config,
             const kernels::AttentionParams& params, Stream stream);

}  // namespace quire::cuda
