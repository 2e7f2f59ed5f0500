// CPU backend of top-k selection.
#pragma once

#include "topk/topk_types.h"

namespace quire::cpu {

void top_k(kernels::DType dtype, const kernels::TopkParams& params);

}  // namespace quire::cpu
