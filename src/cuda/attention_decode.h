// What attention_decode is launched with.
#pragma once

#include <cstdint>

#include "attention/attention_decode_layout.h"
#include "attention/attention_decode_types.h"

namespace quire::cuda {

// config.boxes: describes k and v to the copy engine. l2_bytes: of the device. beside: as in
// AttentionDecodeParams.
kernels::AttentionDecodeParams decode_params(const kernels::AttentionConfig& config,
                                             const kernels::AttentionParams& params,
                                             std::int64_t l2_bytes, bool beside);

// Of the workers of a decode kernel, the share that keeps the memory busy, and what cutting tiles
// takes longer, in tokens. 1 and 0 for other kernels.
double decode_memory_share(const kernels::AttentionConfig& config);
int decode_cut_cost(const kernels::AttentionConfig& config);

}  // namespace quire::cuda
