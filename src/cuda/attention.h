// Batch attention on CUDA: which kernel and tile a shape gets, and launching it on planned work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "attention/attention_types.h"
#include "cuda/launch.h"
#include "plan/attention.h"
#include "quire/attention_variant.h"
#include "quire/device.h"

namespace quire::cuda {

// What plan() needs to know of a device and shape.
struct AttentionTarget {
  kernels::AttentionConfig config;  // tile and warps filled in; `aligned` is decided at run
  plan::AttentionTile tile;         // num_workers = thread blocks resident on the device
};

// Chooses and compiles the kernels for `shape` (dtypes and head dims are read, the rest is filled
// in). mean_packed_rows: average of qo_len * group_size over requests with rows; small values get
// the decode tile. variant: of shape.variant custom, else null. Throws not_implemented, naming
// argument and reason, where CUDA has no kernel, compile where the variant does not compile.
AttentionTarget attention_target(int device_index, const kernels::AttentionConfig& shape,
                                 double mean_packed_rows, const AttentionVariant* variant);

// Copies planning metadata to the device, ordered on `stream`. `src` may be reused on return.
void upload(int device_index, void* dst, const void* src, std::size_t bytes, Stream stream);

// Attention over params.items, then the merge of partial results when there are any. All pointers
// are device pointers; config.aligned must say whether q, k and v rows are 16-byte aligned.
void attention(int device_index, const kernels::AttentionConfig& config,
               const AttentionVariant* variant, const kernels::AttentionParams& params,
               Stream stream);

// Checked mode: position in `indices` of the first page id outside [0, num_pages), or -1. Waits.
std::int64_t first_bad_page(int device_index, const std::int32_t* indices, std::int64_t num_indices,
                            int num_pages, Stream stream);

std::vector<ListedKernel> attention_kernels();

}  // namespace quire::cuda
