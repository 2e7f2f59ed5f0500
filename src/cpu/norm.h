// CPU backend of the root-mean-square norms.
#pragma once

#include "norm/norm_types.h"

namespace quire::cpu {

void rms_norm(const kernels::RmsNormConfig& config, const kernels::RmsNormParams& params);

}  // namespace quire::cpu
