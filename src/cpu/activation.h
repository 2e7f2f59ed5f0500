// CPU backend of the gated activations.
#pragma once

#include "activation/activation_types.h"

namespace quire::cpu {

void activate_and_mul(const kernels::ActivationConfig& config,
                      const kernels::ActivationParams& params);

}  // namespace quire::cpu
