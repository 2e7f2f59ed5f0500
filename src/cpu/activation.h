// CPU backend of the gated activations.
#pragma once

#include "activation/activation_types.h"

namespace quire::cpu {

void silu_and_mul(const kernels::SiluAndMulConfig& config, const kernels::SiluAndMulParams& params);

}  // namespace quire::cpu
