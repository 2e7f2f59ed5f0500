// probs = softmax(logits / temperature), row by row.
//
// Grid:   one block a row
// Block:  c.threads
// Smem:   8 bytes a warp
// Output: probs. NaN for a row with a NaN, a +inf (but temperature 0) or a bad temperature; 0 for a
//         row of -inf
// Needs:  any GPU
#pragma once

#include "sampling/argmax.cuh"

namespace quire::kernels {

// Largest logit so far and the sum of exp2((x - largest) * scale). -inf stands for no logit.
struct ExpSum {
  float largest = tile::kNegInf;
  float sum = 0.f;

  // What is subtracted from logits: -inf - -inf would be NaN.
  float reference() const { return largest == tile::kNegInf ? 0.f : largest; }
  void raise(float candidate, float scale) {  // NaN loses
    if (!(candidate > largest)) return;
    sum *= tile::exp2_approx((largest - candidate) * scale);
    largest = candidate;
  }
  void add(float x, float scale) {
    raise(x, scale);
    sum += tile::exp2_approx((x - reference()) * scale);
  }
};

template <LogitsConfig c, class Value>
inline void write_row(float* probs, i32 vocab, Value&& value) {
  for (i32 at = tile::thread_index() * c.vec_elems; at < vocab; at += c.threads * c.vec_elems) {
    float y[c.vec_elems];
    value(at, y);
    tile::store<c.vec_elems>(probs + at, y);
  }
}

template <LogitsConfig c>
inline void fill_row(float* probs, i32 vocab, i32 one_hot, float elsewhere) {
  write_row<c>(probs, vocab, [&](i32 at, float(&y)[c.vec_elems]) {
#pragma unroll
    for (int i = 0; i < c.vec_elems; ++i) y[i] = at + i == one_hot ? 1.f : elsewhere;
  });
}

// Temperature 0: all mass on the largest logit.
template <LogitsConfig c>
inline void greedy_row(const tile::storage_t<c.dtype>* logits, float* probs, i32 vocab) {
  const Largest largest =
      block_argmax<c>(logits, vocab, reinterpret_cast<u64*>(tile::shared_memory()));
  const bool has_nan = largest.index < 0;
  fill_row<c>(probs, vocab, largest.is_negative_infinity ? -1 : largest.index,
              has_nan ? tile::float_from_bits(0x7fc00000u) : 0.f);
}

template <LogitsConfig c>
void softmax(const SoftmaxParams& p) {
  using T = tile::storage_t<c.dtype>;
  constexpr float kCoolest = 0x1p-100f;  // keeps 1 / temperature finite
  const i64 row = tile::block_index();
  const T* logits = static_cast<const T*>(p.logits) + row * p.logits_stride;
  float* probs = p.probs + row * p.probs_stride;
  const float temperature = p.temperature.at(row);
  if (!(temperature >= 0.f && temperature < tile::kInfinity)) {
    return fill_row<c>(probs, p.vocab, -1, tile::float_from_bits(0x7fc00000u));
  }
  if (temperature == 0.f) return greedy_row<c>(logits, probs, p.vocab);

  const float scale = tile::kLog2e / tile::max_f32(temperature, kCoolest);
  ExpSum mine;
  for_each_element<c.vec_elems>(logits, 0, p.vocab, tile::thread_index(), c.threads,
                                [&](i32, float x) { mine.add(x, scale); });
  float* scratch = reinterpret_cast<float*>(tile::shared_memory());
  mine.raise(block_max<c.threads>(mine.largest, scratch), scale);
  const float sum = block_sum<c.threads>(mine.sum, scratch);
  const float reference = mine.reference();
  const float inverse = sum == 0.f ? 0.f : 1.f / sum;
  write_row<c>(probs, p.vocab, [&](i32 at, float(&y)[c.vec_elems]) {
    tile::load<c.vec_elems>(y, logits + at);
#pragma unroll
    for (int i = 0; i < c.vec_elems; ++i) {
      y[i] = tile::exp2_approx((y[i] - reference) * scale) * inverse;
    }
  });
}

}  // namespace quire::kernels
