// How the kernels of attention that copy by boxes see K and V.
#pragma once

#include <cstdint>

#include "attention/attention_types.h"

namespace quire::cuda {

// log2 of page_size, or -1 where it is no power of two.
int page_shift(int page_size);

// False for k or v that repeat a row (a stride of 0): the copy engine's maps have none.
bool boxes_can_describe_kv(const kernels::AttentionParams& params);

}  // namespace quire::cuda
