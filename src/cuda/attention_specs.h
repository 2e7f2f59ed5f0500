// The kernels of batch attention as the compiler gets them.
#pragma once

#include "attention/attention_types.h"
#include "jit/kernel_spec.h"
#include "quire/attention_variant.h"

namespace quire::cuda {

// Of the kernel that config names. variant: of config.variant custom, else null.
jit::KernelSpec attention_spec(const kernels::AttentionConfig& config,
                               const AttentionVariant* variant = nullptr);
// The merge does not depend on the tile: one kernel serves all of them.
jit::KernelSpec merge_spec(const kernels::AttentionConfig& config);
// Of K and V as attention_copy_kv reads them: of config's dtypes, head dims and alignment.
jit::KernelSpec copy_kv_spec(const kernels::AttentionConfig& config);
jit::KernelSpec page_check_spec();
jit::KernelSpec plan_spec();

}  // namespace quire::cuda
