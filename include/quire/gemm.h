// Dense matrix product, through cuBLASLt on CUDA and OpenBLAS on the CPU (both by dlopen).
#pragma once

#include "quire/tensor.h"

namespace quire {

// out[m, n] = sum_k a[m, k] * weight[n, k]: a linear layer with weight as PyTorch stores it.
// a and weight share one dtype of f32/f16/bf16; out has that dtype or f32. Rows of any stride
// >= the row length, last dimension contiguous. Accumulates in f32.
// Throws device_unavailable when the library for the device is not found.
void gemm(const TensorView& a, const TensorView& weight, const TensorView& out, Stream stream = {});

}  // namespace quire
