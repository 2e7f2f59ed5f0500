// What the logits processors share between host and device.
#pragma once

#include "sampling/sampling_types.h"

namespace quire::kernels {

struct LogitsProcessorsConfig {
  DType dtype = DType::f32;
  i32 vec_elems = 1;  // elements an access; divides 32, vocab and every row stride
  i32 threads = 256;
  bool has_bias = false;

  bool operator==(const LogitsProcessorsConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const LogitsProcessorsConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("has_bias", c.has_bias);
}

// Elements of a row that one block works on.
constexpr i32 processed_piece(const LogitsProcessorsConfig& c) {
  return c.threads * c.vec_elems * 4;
}

// Strides in elements.
struct LogitsProcessorsParams {
  RowsIn in;  // [rows, vocab]
  void* out;  // [rows, vocab]
  i64 out_stride;
  const i32* bias_ids;  // [rows, num_biases]
  i64 bias_ids_stride;
  const float* bias_values;  // [rows, num_biases]
  i64 bias_values_stride;
  i32 num_biases;
  const u32* prompt_mask;  // [rows, words] or null
  i64 prompt_mask_stride;
  const i32* output_counts;  // [rows, vocab] or null
  i64 output_counts_stride;
  const u32* allowed_mask;  // [rows, words] or null
  i64 allowed_mask_stride;
  RowValue<float> repetition;
  RowValue<float> presence;
  RowValue<float> frequency;
  RowValue<float> temperature;
};

// One row's numbers.
struct LogitsPenalties {
  float repetition, presence, frequency, temperature;

  constexpr LogitsPenalties(const LogitsProcessorsParams& p, i64 row)
      : repetition(p.repetition.at(row)),
        presence(p.presence.at(row)),
        frequency(p.frequency.at(row)),
        temperature(p.temperature.at(row)) {
    if (temperature == 0.f) temperature = 1.f;
  }
  // Of a token that is in the prompt, or has been generated `count` > 0 times.
  constexpr float of_seen(float x, i32 count) const {
    x = x > 0.f ? x / repetition : x * repetition;
    if (count > 0) {
      const float by_count = frequency * static_cast<float>(count);
      x -= by_count;
      x -= presence;
    }
    return x;
  }
  constexpr float tempered(float x) const { return temperature == 1.f ? x : x / temperature; }
};

}  // namespace quire::kernels
