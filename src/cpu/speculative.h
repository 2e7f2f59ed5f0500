// CPU backend of speculative sampling.
#pragma once

#include "speculative/speculative_types.h"

namespace quire::cpu {

void chain_speculative(const kernels::ChainParams& params);
void verify_tree(const kernels::TreeParams& params);

}  // namespace quire::cpu
