// CPU backend of appending to a paged KV-cache, and of its index functions.
#pragma once

#include "append/append_types.h"

namespace quire::cpu {

void append_paged_kv(const kernels::AppendConfig& config, const kernels::AppendParams& params);
void batch_indices_positions(const kernels::BatchIndicesParams& params);
void seq_lens(const kernels::SeqLensParams& params);

}  // namespace quire::cpu
