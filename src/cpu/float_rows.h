// A row of f32, f16 or bf16 elements as f32, and back. Written so that the compiler vectorises it.
#pragma once

#include <cstdint>

#include "quire/tensor.h"

namespace quire::cpu {

void to_float(const void* src, DType dtype, std::int64_t count, float* dst);

// Rounds to nearest even; magnitudes past the largest finite one become infinity.
void from_float(const float* src, std::int64_t count, DType dtype, void* dst);

}  // namespace quire::cpu
