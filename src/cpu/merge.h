// Merging attention states on the CPU.
#pragma once

#include "attention/merge_types.h"

namespace quire::cpu {

void merge_states(const kernels::MergeStatesConfig& config,
                  const kernels::MergeStatesParams& params);

}  // namespace quire::cpu
