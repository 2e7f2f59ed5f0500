// Batch attention on CUDA: which kernel and tile a shape gets, and launching it on planned work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention_plan_types.h"
#include "attention/attention_types.h"
#include "cuda/attention_config.h"
#include "cuda/attention_copy_kv.h"
#include "cuda/launch.h"
#include "plan/attention.h"
#include "quire/attention_variant.h"
#include "quire/device.h"

namespace quire::cuda {

// What plan() needs to know of a device and shape.
struct AttentionTarget {
  kernels::AttentionConfig config;  // kernel and tile filled in, for aligned rows
  plan::AttentionTile tile;         // num_workers = thread blocks resident on the device
  kernels::AttentionConfig few;     // of the kernel that tile.few describes
  plan::KvCopyCost copy_cost;       // where a copy of K and V may pay
};

// The kernels that do a plan.
struct AttentionKernels {
  kernels::AttentionConfig config;  // of attention_target(), as the next
  kernels::AttentionConfig few;
  int num_few_workers = 0;  // the last of params.num_workers, which are few's
  plan::TwoKernels two = plan::TwoKernels::at_once;
  bool aligned = true;              // rows of q, k, v and out are 16-byte aligned
  std::optional<KvCopy> copy = {};  // which `config` reads
  const AttentionVariant* variant = nullptr;
};

// Chooses and compiles the kernels for a demand (its compute_major and num_sms are filled in here),
// two where demand.mean_long_rows asks for it and the GPU can run both at once. variant: of
// demand.shape.variant custom, else null. Throws not_implemented, naming argument and reason, where
// CUDA has no kernel, compile where the variant does not compile.
AttentionTarget attention_target(int device_index, AttentionDemand demand,
                                 const AttentionVariant* variant);

// Compiles and loads what attention_plan() needs, which a stream that captures could not.
void prepare_attention_plan(int device_index);

// Plans on the device. All pointers are device pointers.
void attention_plan(int device_index, const kernels::AttentionPlanParams& params, Stream stream);

// Attention over params.items, then the merge of partial results when there are any. All pointers
// are device pointers. Where rows are not aligned a kernel is compiled that plan() did not ask for.
void attention(int device_index, const AttentionKernels& kernels,
               const kernels::AttentionParams& params, Stream stream);

// Checked mode: position in params.kv_indices of the first page id outside [0, num_pages) among
// those of the requests' tokens, or -1. Waits.
std::int64_t first_bad_page(int device_index, const kernels::AttentionParams& params,
                            Stream stream);

std::vector<ListedKernel> attention_kernels();

}  // namespace quire::cuda
