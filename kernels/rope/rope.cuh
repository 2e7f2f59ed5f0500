// Rotary position embedding of q and k, to tensors or to pages, in their dtype or in fp8; what is
// not turned (other parts of q and k, v) goes the same ways.
//
// Grid:   a block a token: in a loop over tokens NVRTC 13.0 splits the wide stores into words
// Block:  c.threads; first over the angles of the token, then over the accesses of all heads
// Smem:   cosine and sine of every pair: kMaxRotaryDim floats
// Output: out of every side; may be its input: a thread reads all that it writes before writing.
//         Tokens that lead outside the pages are not written to them
// Needs:  any GPU
#pragma once

#include "rope/angle.h"
#include "rope/rope_types.h"
#include "tile/word.h"

namespace quire::kernels {

// Where the cosines and sines of the current token lie in shared memory.
struct RopeTable {
  float* cosine;  // [kMaxRotaryDim / 2]
  float* sine;    // [kMaxRotaryDim / 2]
};

// Two accesses of neighbouring pairs of a head that turn, or one of what does not.
template <RopeConfig c>
class RopeUnit {
  using T = tile::storage_t<c.dtype>;
  static constexpr int kVec = c.vec_elems;

 public:
  // Number i of the token's units: of all heads of a side, then of the next. Reads its elements.
  void read(const RopeParams& p, i64 token, int i) {
    int units;  // a head
    for (side_ = 0;; ++side_) {
      const RopeSide& side = p.sides[side_];
      units = (side.head_dim - side.rotary_dim / 2) / kVec;
      if (i < side.num_heads * units || side_ == kRopeSides - 1) break;
      i -= side.num_heads * units;
    }
    const RopeSide& side = p.sides[side_];
    head_ = static_cast<u32>(i) / static_cast<u32>(units);
    const int first = (i - head_ * units) * kVec, pairs = side.rotary_dim / 2;
    turns_ = first < pairs;
    at_ = turns_ ? first : first + pairs;
    const T* in =
        static_cast<const T*>(side.in) + token * side.in_token_stride + head_ * side.in_head_stride;
    // Both are read either way, the second from anywhere: of what is not there either way the
    // compiler unpacks the elements at once; of what is at the place of the first it makes copies,
    // for which it waits.
    x_[0] = tile::load_word<kVec>(in + first_access());
    x_[1] = tile::load_word<kVec>(in + (turns_ ? second_access(side) : 0));
  }

  void write(const RopeParams& p, i64 token, PageSlot to, const RopeTable& table) const {
    if (c.q_out_dtype == c.k_out_dtype || side_ < kRopeQuerySides) {
      write_as<c.q_out_dtype>(p.sides[side_], token, to, table);
    } else {
      write_as<c.k_out_dtype>(p.sides[side_], token, to, table);
    }
  }

 private:
  // The accesses of pairs lie side by side when these are interleaved, half the rotary dims apart
  // if not.
  int first_access() const { return c.interleave && turns_ ? 2 * at_ : at_; }
  int second_access(const RopeSide& side) const {
    return c.interleave ? 2 * at_ + kVec : at_ + side.rotary_dim / 2;
  }

  template <DType out_dtype>
  void write_as(const RopeSide& side, i64 token, PageSlot to, const RopeTable& table) const {
    using Out = tile::storage_t<out_dtype>;
    if (side.paged && to.page < 0) return;
    Out* out = static_cast<Out*>(side.out) + head_ * side.out_head_stride;
    out += side.paged ? to.page * side.out_page_stride + to.slot * side.out_token_stride
                      : token * side.out_token_stride;
    float factor = 1;
    if constexpr (is_fp8(out_dtype)) {
      factor =
          side.scales != nullptr ? 1.f / side.scales[head_ * side.scale_head_stride] : side.factor;
    }
    float x[2][kVec];
    tile::unpack_word<T>(x[0], x_[0]);
    if (turns_) {
      tile::unpack_word<T>(x[1], x_[1]);
      turn(x, table);
      put(out + second_access(side), x[1], factor);
    }
    put(out + first_access(), x[0], factor);
  }

  void turn(float (&x)[2][kVec], const RopeTable& table) const {
    float cosine[kVec], sine[kVec];
    tile::load<kVec>(cosine, table.cosine + at_);
    tile::load<kVec>(sine, table.sine + at_);
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      // Element 0 and 1 of pair j: access and place in it.
      const int a0 = c.interleave ? 2 * j / kVec : 0, i0 = c.interleave ? 2 * j % kVec : j;
      const int a1 = c.interleave ? (2 * j + 1) / kVec : 1,
                i1 = c.interleave ? (2 * j + 1) % kVec : j;
      const float x0 = x[a0][i0], x1 = x[a1][i1];
      x[a0][i0] = x0 * cosine[j] - x1 * sine[j];
      x[a1][i1] = x1 * cosine[j] + x0 * sine[j];
    }
  }

  template <class Out>
  static void put(Out* out, float (&x)[kVec], float factor) {
    if constexpr (sizeof(Out) == 1) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] *= factor;
    }
    tile::store<kVec>(out, x);
  }

  tile::word_t<kVec * sizeof(T)> x_[2];
  int side_, head_;
  int at_;  // first pair, or first element of what does not turn
  bool turns_;
};

template <RopeConfig c>
inline void fill_table(const RopeParams& p, i64 token, const RopeTable& table) {
  const i64 position = rope_position<tile::storage_t<c.pos_dtype>>(p, c.positions, token);
  const int pairs = p.rotary_dim / 2;
#pragma unroll 1
  for (int i = tile::thread_index(); i < pairs; i += c.threads) {
    if constexpr (c.cached) {
      using Cache = tile::storage_t<c.cache_dtype>;
      const bool inside = position >= 0 && position < p.max_position;  // outside nothing turns
      const Cache* row =
          static_cast<const Cache*>(p.cos_sin_cache) + (inside ? position * p.cache_stride : 0);
      table.cosine[i] = inside ? tile::to_float(row[i]) : 1.f;
      table.sine[i] = inside ? tile::to_float(row[pairs + i]) : 0.f;
    } else {
      const SineCosine turn = sine_cosine(static_cast<float>(position) * p.inv_freq[i]);
      table.cosine[i] = turn.cosine * p.table_factor;
      table.sine[i] = turn.sine * p.table_factor;
    }
  }
}

template <RopeConfig c>
void rope(const RopeParams& p) {
  float* smem = reinterpret_cast<float*>(tile::shared_memory());
  const RopeTable table{smem, smem + kMaxRotaryDim / 2};
  const i64 token = tile::block_index();
  PageSlot to{-1, 0};
  for (int base = 0; base < p.num_units; base += c.units_per_thread * c.threads) {
    RopeUnit<c> units[c.units_per_thread];
#pragma unroll
    for (int j = 0; j < c.units_per_thread; ++j) {
      const int i = base + j * c.threads + tile::thread_index();
      units[j].read(p, token, tile::min_of(i, p.num_units - 1));
    }
    if (base == 0) {  // while the elements are on their way
      if (p.any_paged && token < p.to.nnz) to = find_page_slot(p.to, token);
      fill_table<c>(p, token, table);
      tile::sync_block();
    }
#pragma unroll
    for (int j = 0; j < c.units_per_thread; ++j) {
      const int i = base + j * c.threads + tile::thread_index();
      if (i < p.num_units) units[j].write(p, token, to, table);
    }
  }
}

}  // namespace quire::kernels
