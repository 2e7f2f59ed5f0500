// What attention_decode is launched with.
#pragma once

#include "attention/attention_decode_layout.h"
#include "attention/attention_decode_types.h"
#include "cuda/driver.h"
#include "plan/attention.h"

namespace quire::cuda {

// config.boxes: describes k and v to the copy engine. beside: as in AttentionDecodeParams.
kernels::AttentionDecodeParams decode_params(const kernels::AttentionConfig& config,
                                             const kernels::AttentionParams& params,
                                             const DeviceLimits& limits, bool beside);

// Of the workers of a decode kernel, the share that keeps the memory busy, and what cutting tiles
// takes longer, in tokens. 1 and 0 for other kernels. memory_speed: of the device.
double decode_memory_share(const kernels::AttentionConfig& config, double memory_speed);
int decode_cut_cost(const kernels::AttentionConfig& config);

// What the planner must know of a decode kernel, `few`, beside attention_sm90, `many`.
plan::FewRowsTile few_rows_tile(const kernels::AttentionConfig& few,
                                const kernels::AttentionConfig& many, double memory_speed);

}  // namespace quire::cuda
