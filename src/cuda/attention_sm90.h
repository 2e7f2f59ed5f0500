// What attention_sm90 is launched with.
#pragma once

#include "attention/attention_sm90_layout.h"
#include "attention/attention_sm90_types.h"

namespace quire::cuda {

// config.boxes: describes q, k, v and out to the copy engine.
kernels::AttentionSm90Params sm90_params(const kernels::AttentionConfig& config,
                                         const kernels::AttentionParams& params);

}  // namespace quire::cuda
