// RMSNorm and LayerNorm over rows, alone or after adding to the residual stream, to the dtype of
// the input or to fp8.
//
// Grid:   ceil(rows / (threads / threads_per_row)) blocks: many short-lived ones, so that loads of
//         one hide under the sums of others
// Block:  c.threads; threads_per_row neighbours share one row
// Smem:   2 x 32 floats, the warps' sums, when a row has more than one warp
// Output: out, computed_scales, and with fused_add residual. out may be input
// Needs:  any GPU
#pragma once

#include "norm/norm_types.h"
#include "tile/group.h"
#include "tile/vec.h"

namespace quire::kernels {

// The row of a thread: its values, in registers or in memory, and where they go.
template <NormConfig c>
class NormRow {
  using T = tile::storage_t<c.dtype>;
  using Weight = tile::storage_t<c.weight_dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  static constexpr int kVec = c.vec_elems;
  static constexpr bool kKept = c.vecs_per_thread > 0;
  static constexpr int kSlots = kKept ? c.vecs_per_thread : 1;
  // With few values a thread, their weights fit beside them and come at the same time.
  static constexpr bool kWeightKept = kKept && kSlots <= 2;

 public:
  // A row that is not `live` has no values; its threads take part in the barriers.
  NormRow(const NormParams& p, i64 row, int lane, bool live)
      : lane_(lane), num_vecs_(live ? p.hidden / kVec : 0) {
    const i64 token = p.heads == 1 ? row : row / p.heads;
    const i64 head = p.heads == 1 ? 0 : row % p.heads;
    input_ =
        static_cast<const T*>(p.input) + token * p.input_token_stride + head * p.input_head_stride;
    residual_ = static_cast<T*>(p.residual) + token * p.residual_token_stride +
                head * p.residual_head_stride;
    out_ = static_cast<Out*>(p.out) + token * p.out_token_stride + head * p.out_head_stride;
    weight_ = static_cast<const Weight*>(p.weight);
    bias_ = static_cast<const Weight*>(p.bias);
  }

  // Reads the values; with fused_add they are the residual as it is stored, rounded.
  void read() {
    if constexpr (kKept) {
      for_slots([&](int i, int at) { kept_[i] = tile::load_vec<kVec>(input_ + at); });
      if constexpr (kWeightKept) {
        for_slots([&](int i, int at) { tile::load<kVec>(kept_weight_[i], weight_ + at); });
      }
      if constexpr (c.fused_add) add_kept();
    } else if constexpr (c.fused_add) {
      for_slots([&](int, int at) {
        float x[kVec], r[kVec];
        tile::load<kVec>(x, input_ + at);
        tile::load<kVec>(r, residual_ + at);
#pragma unroll
        for (int j = 0; j < kVec; ++j) x[j] += r[j];
        tile::store<kVec>(residual_ + at, x);
      });
    }
  }

  // Calls use(x, slot, element) for every access of the row that is this thread's.
  template <class Use>
  void each(Use&& use) {
    for_slots([&](int i, int at) {
      float x[kVec];
      if constexpr (kKept) {
        tile::unpack(x, kept_[i]);
      } else {
        tile::load<kVec>(x, (c.fused_add ? residual_ : input_) + at);
      }
      use(x, i, at);
    });
  }

  // x = (x - mean) * scale * (weight + weight_bias) + bias, without mean and bias for RMSNorm.
  void apply(float (&x)[kVec], int i, int at, float mean, float scale, float weight_bias) const {
    float w[kVec], b[kVec];
    if constexpr (!kWeightKept) tile::load<kVec>(w, weight_ + at);
    if constexpr (c.kind == NormKind::layer) tile::load<kVec>(b, bias_ + at);
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      const float weight =
          (kWeightKept ? kept_weight_[kWeightKept ? i : 0][j] : w[j]) + weight_bias;
      if constexpr (c.kind == NormKind::layer) {
        x[j] = tile::fma_f32((x[j] - mean) * scale, weight, b[j]);
      } else {
        x[j] = x[j] * scale * weight;
      }
    }
  }

  void write(int at, const float (&y)[kVec]) { tile::store<kVec>(out_ + at, y); }

 private:
  // body(slot, first element) of the accesses that are this thread's.
  template <class Body>
  void for_slots(Body&& body) {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < kSlots; ++i) {
        const int vec = lane_ + i * c.threads_per_row;
        if (vec < num_vecs_) body(i, vec * kVec);
      }
    } else {
      for (int vec = lane_; vec < num_vecs_; vec += c.threads_per_row) body(0, vec * kVec);
    }
  }

  // All reads before the first write: the compiler may not exchange them.
  void add_kept() {
    tile::Vec<T, kVec> residual[kSlots];
    for_slots([&](int i, int at) { residual[i] = tile::load_vec<kVec>(residual_ + at); });
    for_slots([&](int i, int at) {
      float x[kVec], r[kVec];
      tile::unpack(x, kept_[i]);
      tile::unpack(r, residual[i]);
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] += r[j];
      tile::store<kVec>(residual_ + at, x);
      kept_[i] = tile::pack<T>(x);
    });
  }

  const T* input_;
  T* residual_;
  Out* out_;
  const Weight* weight_;
  const Weight* bias_;
  int lane_, num_vecs_;
  tile::Vec<T, kVec> kept_[kSlots];
  float kept_weight_[kWeightKept ? kSlots : 1][kVec];
};

// Sum of (x - mean)^2 over the values of a thread.
template <NormConfig c>
inline float sum_of_squares(NormRow<c>& row, float mean) {
  float sum = 0;
  row.each([&](const float(&x)[c.vec_elems], int, int) {
#pragma unroll
    for (int j = 0; j < c.vec_elems; ++j) {
      const float d = c.kind == NormKind::layer ? x[j] - mean : x[j];
      sum = tile::fma_f32(d, d, sum);
    }
  });
  return sum;
}

template <NormConfig c>
void normalize(const NormParams& p) {
  constexpr int kVec = c.vec_elems;
  constexpr int kRowsPerBlock = c.threads / c.threads_per_row;
  const int lane = tile::thread_index() % c.threads_per_row;
  const i64 index = static_cast<i64>(tile::block_index()) * kRowsPerBlock +
                    tile::thread_index() / c.threads_per_row;
  const bool live = index < p.rows;
  NormRow<c> row(p, live ? index : 0, lane, live);
  tile::Group<c.threads_per_row> over_row;
  row.read();

  const float size = static_cast<float>(p.hidden);
  float mean = 0;
  if constexpr (c.kind == NormKind::layer) {
    row.each([&](const float(&x)[kVec], int, int) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) mean += x[j];
    });
    mean = over_row.sum(mean) / size;
  }
  const float squares = over_row.sum(sum_of_squares(row, mean));
  const float scale = 1.f / tile::sqrt_f32(squares / size + p.eps);

  float inverse = 1;  // of the scale of the output
  if constexpr (c.scaling == Scaling::given) {
    inverse = 1.f / (p.given_scale != nullptr ? *p.given_scale : p.scale_value);
  }
  if constexpr (c.scaling == Scaling::computed) {
    float amax = 0;
    row.each([&](float(&x)[kVec], int i, int at) {
      row.apply(x, i, at, mean, scale, p.weight_bias);
#pragma unroll
      for (int j = 0; j < kVec; ++j) amax = tile::max_f32(amax, tile::abs_f32(x[j]));
    });
    const float out_scale = fp8_scale(over_row.max(amax), c.out_dtype, p.power_of_two);
    if (live && lane == 0) p.computed_scales[index] = out_scale;
    inverse = 1.f / out_scale;
  }
  row.each([&](float(&x)[kVec], int i, int at) {
    row.apply(x, i, at, mean, scale, p.weight_bias);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] = c.scaling == Scaling::none ? x[j] : x[j] * inverse;
    row.write(at, x);
  });
}

}  // namespace quire::kernels
