// Matrix product on the CPU.
#pragma once

#include "quire/tensor.h"

namespace quire::cpu {

// out = a weight^T; arguments as checked by quire::gemm. No dimension is 0 but perhaps k.
void gemm(const TensorView& a, const TensorView& weight, const TensorView& out);

}  // namespace quire::cpu
