// What softmax, argmax, the samplers and the filters share between host and device.
#pragma once

#include "sampling/row_types.h"

namespace quire::kernels {

// Values that keep everything: top_k 0, top_p 1, min_p 0.
struct FilterParams {
  RowValue<i32> top_k;
  RowValue<float> top_p;
  RowValue<float> min_p;
  i32 joint;  // 1: top-p counts mass in the whole distribution, 0: within the top-k tokens
};

// Strides in elements.
struct SampleParams {
  RowsIn in;                    // probabilities or logits
  RowValue<float> temperature;  // of logits
  FilterParams filter;
  i32 rows;            // of the output
  i32 row_streams;     // 1: the output row is part of the random counter (one seed for all rows)
  const i32* indices;  // [rows] rows of the input; null: the output row itself
  i64 indices_stride;
  i32* ids;  // [rows]
  i64 ids_stride;
  u8* valid;  // [rows] or null
  i64 valid_stride;
  float* log_probs;  // [rows] or null
  i64 log_probs_stride;
  RowValue<i64> seed;
  RowValue<i64> offset;
};

// Probabilities renormalised over the tokens that a filter keeps, or logits with the others at
// -inf. Out has the dtype of in, and may be it.
struct FilterRowsParams {
  RowsIn in;
  FilterParams filter;
  void* out;  // [rows, vocab]
  i64 out_stride;
};

struct SoftmaxParams {
  RowsIn in;
  float* probs;  // [rows, vocab]
  i64 probs_stride;
  RowValue<float> temperature;
};

struct TokenLogProbsParams {
  RowsIn in;  // logits
  RowValue<float> temperature;
  i32 tokens;      // a row
  const i32* ids;  // [rows, tokens]
  i64 ids_stride;
  float* out;  // [rows, tokens]
  i64 out_stride;
};

struct ArgmaxParams {
  RowsIn in;
  i32* ids;  // [rows]
  i64 ids_stride;
};

struct ArgmaxConfig {
  DType dtype = DType::f32;
  i32 vec_elems = 1;
  i32 threads = 128;

  bool operator==(const ArgmaxConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const ArgmaxConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

// The random number of an output row.
constexpr u64 row_random(const SampleParams& p, i64 row) {
  return philox(static_cast<u64>(p.seed.at(row)), static_cast<u64>(p.offset.at(row)),
                p.row_streams != 0 ? static_cast<u64>(row) : 0);
}

}  // namespace quire::kernels
