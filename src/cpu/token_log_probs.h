// CPU backend of token_log_probs.
#pragma once

#include "sampling/log_probs_types.h"

namespace quire::cpu {

void token_log_probs(kernels::DType dtype, const kernels::TokenLogProbsParams& params);

}  // namespace quire::cpu
