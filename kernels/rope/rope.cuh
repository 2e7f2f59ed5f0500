// Rotary position embedding of q and k.
//
// Grid:   a block a token: in a loop over tokens NVRTC 13.0 splits the wide stores into words
// Block:  c.threads; first over the angles of the token, then over the pairs of all heads
// Smem:   cosine and sine of every pair: kMaxRotaryDim floats
// Output: q.out and k.out; may be the inputs: a thread reads all that it writes before writing
// Needs:  any GPU
#pragma once

#include "rope/angle.h"
#include "rope/rope_types.h"
#include "tile/vec.h"

namespace quire::kernels {

// Where the cosines and sines of the current token lie in shared memory.
struct RopeTable {
  float* cosine;  // [kMaxRotaryDim / 2]
  float* sine;    // [kMaxRotaryDim / 2]
};

// The 2 * vec_elems elements of `vec_elems` neighbouring pairs of one head, from pair `first` on.
template <RopeConfig c>
inline void rotate_pairs(const tile::storage_t<c.dtype>* in, tile::storage_t<c.dtype>* out,
                         int first, int rotary_dim, const RopeTable& table) {
  constexpr int kVec = c.vec_elems;
  // Two accesses hold the pairs: side by side when interleaved, half the rotary dims apart if not.
  const int at0 = c.interleave ? 2 * first : first;
  const int at1 = c.interleave ? 2 * first + kVec : first + rotary_dim / 2;
  float x[2][kVec], y[2][kVec];
  tile::load<kVec>(x[0], in + at0);
  tile::load<kVec>(x[1], in + at1);
#pragma unroll
  for (int j = 0; j < kVec; ++j) {
    const float cosine = table.cosine[first + j], sine = table.sine[first + j];
    // Element 0 and 1 of pair j: access and place in it.
    const int a0 = c.interleave ? 2 * j / kVec : 0, i0 = c.interleave ? 2 * j % kVec : j;
    const int a1 = c.interleave ? (2 * j + 1) / kVec : 1,
              i1 = c.interleave ? (2 * j + 1) % kVec : j;
    y[a0][i0] = x[a0][i0] * cosine - x[a1][i1] * sine;
    y[a1][i1] = x[a1][i1] * cosine + x[a0][i0] * sine;
  }
  tile::store<kVec>(out + at0, y[0]);
  tile::store<kVec>(out + at1, y[1]);
}

template <RopeConfig c>
inline void rotate_heads(const RopeParams& p, const RopeSide& side, i64 token,
                         const RopeTable& table) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kVec = c.vec_elems;
  const T* in = static_cast<const T*>(side.in) + token * side.in_token_stride;
  T* out = static_cast<T*>(side.out) + token * side.out_token_stride;
  const int rotated = p.rotary_dim / 2 / kVec;  // accesses a head that turn, then those that copy
  const int units = rotated + (p.head_dim - p.rotary_dim) / kVec;
  for (int i = tile::thread_index(); i < side.num_heads * units; i += c.threads) {
    const int head = i / units, unit = i - head * units;
    const T* head_in = in + head * side.in_head_stride;
    T* head_out = out + head * side.out_head_stride;
    if (unit < rotated) {
      rotate_pairs<c>(head_in, head_out, unit * kVec, p.rotary_dim, table);
    } else {
      const int at = p.rotary_dim + (unit - rotated) * kVec;
      *reinterpret_cast<tile::Vec<T, kVec>*>(head_out + at) =
          *reinterpret_cast<const tile::Vec<T, kVec>*>(head_in + at);
    }
  }
}

template <RopeConfig c>
void rope(const RopeParams& p) {
  float* smem = reinterpret_cast<float*>(tile::shared_memory());
  const RopeTable table{smem, smem + kMaxRotaryDim / 2};
  const i64 token = tile::block_index();
  const auto* pos_ids = static_cast<const tile::storage_t<c.pos_dtype>*>(p.pos_ids);
  const float position = static_cast<float>(pos_ids[token * p.pos_ids_stride]);
  for (int i = tile::thread_index(); i < p.rotary_dim / 2; i += c.threads) {
    const SineCosine turn = sine_cosine(position * p.inv_freq[i]);
    table.cosine[i] = turn.cosine;
    table.sine[i] = turn.sine;
  }
  tile::sync_block();
  rotate_heads<c>(p, p.q, token, table);
  rotate_heads<c>(p, p.k, token, table);
}

}  // namespace quire::kernels
