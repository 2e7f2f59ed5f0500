// The part of a row that a thread of a normalisation reads, holds and writes.
#pragma once

#include "norm/norm_types.h"
#include "tile/word.h"

namespace quire::kernels {

// RMSNorm to a scale a row: of x * weight, that is not yet normalised, the largest magnitude is
// known with the sum of squares, and the products need not be made twice.
constexpr bool is_scaled_rms(const NormConfig& c) {
  return c.kind == NormKind::rms && c.scaling == Scaling::computed;
}

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
  static constexpr bool kWeightKept = kKept && kSlots <= (is_scaled_rms(c) ? 4 : 2);
  static constexpr int kWeightVec = tile::min_of<int>(kVec, 16 / sizeof(Weight));
  static constexpr int kWeightAccesses = kVec / kWeightVec;
  using WeightWord = tile::word_t<kWeightVec * sizeof(Weight)>;

 public:
  // Of values kept in registers.
  static constexpr int kNumSlots = kSlots;
  static constexpr bool kIsKept = kKept;

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
      all_slots([&](int i, int at, bool) { kept_[i] = tile::load_word<kVec>(input_ + at); });
      if constexpr (kWeightKept) {
        all_slots([&](int i, int at, bool) { read_weight(kept_weight_[i], at); });
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
        tile::unpack_word<T>(x, kept_[i]);
      } else {
        tile::load<kVec>(x, (c.fused_add ? residual_ : input_) + at);
      }
      use(x, i, at);
    });
  }

  // Calls use(x, slot, element, is in the row) for slots that are kept, the others as they are in
  // the row: without branches, loads that come late hold up what needs them only.
  template <class Use>
  void each_kept(Use&& use) {
    if constexpr (kKept) {
      all_slots([&](int i, int at, bool inside) {
        float x[kVec];
        tile::unpack_word<T>(x, kept_[i]);
        use(x, i, at, inside);
      });
    } else {
      each([&](float(&x)[kVec], int i, int at) { use(x, i, at, true); });
    }
  }

  // x = (x - mean) * scale * (weight + weight_bias) + bias, without mean and bias for RMSNorm.
  void apply(float (&x)[kVec], int i, int at, float mean, float scale, float weight_bias) const {
    float w[kVec], b[kVec];
    weights(w, i, at);
    if constexpr (c.kind == NormKind::layer) tile::load<kVec>(b, bias_ + at);
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      w[j] += weight_bias;
      if constexpr (c.kind == NormKind::layer) {
        x[j] = tile::fma_f32((x[j] - mean) * scale, w[j], b[j]);
      } else {
        x[j] = x[j] * scale * w[j];
      }
    }
  }

  // x * (weight + weight_bias)
  void weigh(float (&x)[kVec], int i, int at, float weight_bias) const {
    float w[kVec];
    weights(w, i, at);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] *= w[j] + weight_bias;
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

  // body(slot, first element, is in the row) of all slots; those behind the row stand for its
  // beginning. Of values that are read either way the compiler keeps the packed form, of others it
  // unpacks at once.
  template <class Body>
  void all_slots(Body&& body) {
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      const int vec = lane_ + i * c.threads_per_row;
      const bool inside = vec < num_vecs_;
      body(i, inside ? vec * kVec : 0, inside);
    }
  }

  void read_weight(WeightWord (&w)[kWeightAccesses], int at) const {
#pragma unroll
    for (int i = 0; i < kWeightAccesses; ++i) {
      w[i] = tile::load_word<kWeightVec>(weight_ + at + i * kWeightVec);
    }
  }
  // The weights of slot i.
  void weights(float (&w)[kVec], int i, int at) const {
    if constexpr (kWeightKept) {
#pragma unroll
      for (int n = 0; n < kWeightAccesses; ++n) {
        float access[kWeightVec];
        tile::unpack_word<Weight>(access, kept_weight_[i][n]);
#pragma unroll
        for (int j = 0; j < kWeightVec; ++j) w[n * kWeightVec + j] = access[j];
      }
    } else {
      tile::load<kVec>(w, weight_ + at);
    }
  }

  // All reads before the first write: the compiler may not exchange them.
  void add_kept() {
    tile::word_t<kVec * sizeof(T)> residual[kSlots];
    for_slots([&](int i, int at) { residual[i] = tile::load_word<kVec>(residual_ + at); });
    for_slots([&](int i, int at) {
      float x[kVec], r[kVec];
      tile::unpack_word<T>(x, kept_[i]);
      tile::unpack_word<T>(r, residual[i]);
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] += r[j];
      kept_[i] = tile::pack_word<T>(x);
      *reinterpret_cast<tile::word_t<kVec * sizeof(T)>*>(residual_ + at) = kept_[i];
    });
  }

  const T* input_;
  T* residual_;
  Out* out_;
  const Weight* weight_;
  const Weight* bias_;
  int lane_, num_vecs_;
  tile::word_t<kVec * sizeof(T)> kept_[kSlots];
  WeightWord kept_weight_[kWeightKept ? kSlots : 1][kWeightAccesses];
};

}  // namespace quire::kernels
