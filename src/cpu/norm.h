// CPU backend of the normalisations.
#pragma once

#include "norm/norm_types.h"

namespace quire::cpu {

void normalize(const kernels::NormConfig& config, const kernels::NormParams& params);

}  // namespace quire::cpu
