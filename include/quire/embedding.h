// Row gather: token embedding, and picking the rows whose logits are wanted.
#pragma once

#include "quire/tensor.h"

namespace quire {

// out[i] = table[indices[i]]. table [rows, dim] of any dtype of 1, 2 or 4 bytes, indices i32 [n],
// out [n, dim]; last dimensions contiguous. An index outside [0, rows) is an error on the CPU and
// gives a row of zeros on CUDA.
void gather_rows(const TensorView& table, const TensorView& indices, const TensorView& out,
                 Stream stream = {});

}  // namespace quire
