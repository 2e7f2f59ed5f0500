// Matrix product on CUDA, by cuBLASLt.
#pragma once

#include "quire/device.h"
#include "quire/tensor.h"

namespace quire::cuda {

// out = a weight^T; arguments as checked by quire::gemm. No dimension is 0 but perhaps k.
void gemm(const TensorView& a, const TensorView& weight, const TensorView& out, Stream stream);

// Drops cuBLASLt handles, chosen algorithms and workspaces. For tests.
void forget_gemm_plans();

}  // namespace quire::cuda
