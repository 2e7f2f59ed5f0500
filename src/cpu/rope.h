// CPU backend of rotary position embedding.
#pragma once

#include "rope/rope_types.h"

namespace quire::cpu {

void rope(const kernels::RopeConfig& config, const kernels::RopeParams& params);

}  // namespace quire::cpu
