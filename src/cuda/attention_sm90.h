// What attention_sm90 is launched with.
#pragma once

#include "attention/attention_sm90_layout.h"
#include "attention/attention_sm90_types.h"

namespace quire::cuda {

// False for tensors that repeat a row (a stride of 0): the copy engine's maps have none.
bool boxes_can_describe(const kernels::AttentionParams& params);

// config.boxes: describes q, k, v and out to the copy engine.
kernels::AttentionSm90Params sm90_params(const kernels::AttentionConfig& config,
                                         const kernels::AttentionParams& params);

}  // namespace quire::cuda
