// What token_log_probs shares between host and device.
#pragma once

#include "sampling/row_types.h"

namespace quire::kernels {

// Strides in elements.
struct TokenLogProbsParams {
  RowsIn in;  // logits
  RowValue<float> temperature;
  i32 tokens;      // a row
  const i32* ids;  // [rows, tokens]
  i64 ids_stride;
  float* out;  // [rows, tokens]
  i64 out_stride;
};

}  // namespace quire::kernels
