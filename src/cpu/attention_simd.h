// The inner loops of CPU attention, vectorised for the processor that runs them. Rows are float and
// dense; `dim` is a multiple of 16.
#pragma once

#include <cstdint>

#include "quire/tensor.h"

namespace quire::cpu::simd {

// n contiguous elements of any floating-point dtype, n a multiple of 16.
void to_float(DType dtype, const void* src, std::int64_t n, float* dst);
// Rounds to nearest even. f32, f16 or bf16.
void from_float(DType dtype, const float* src, std::int64_t n, void* dst);

// scores[r * stride + t] = q[r, :] . k[t, :]
void dot_rows(const float* q, int num_rows, const float* k, int num_tokens, int dim, float* scores,
              int stride);
// out[r, :] += sum over t of p[r * stride + t] * v[t, :]
void add_weighted_rows(const float* p, int num_rows, int stride, const float* v, int num_tokens,
                       int dim, float* out);
// x = factor * x
void scale(float* x, std::int64_t n, float factor);
// x = cap * tanh(x / cap)
void soft_cap(float* x, std::int64_t n, float cap);
// x = exp(x - shift), where x is at most about shift. NaN stays NaN, -inf becomes 0.
void exp_minus(float* x, std::int64_t n, float shift);

}  // namespace quire::cpu::simd
