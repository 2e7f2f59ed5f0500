// CPU backend of the logits processors.
#pragma once

#include "logits_processors/logits_processors_types.h"

namespace quire::cpu {

void apply_logits_processors(kernels::DType dtype, const kernels::LogitsProcessorsParams& params);

}  // namespace quire::cpu
