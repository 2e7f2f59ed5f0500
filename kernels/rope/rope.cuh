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
#include "tile/vec.h"

namespace quire::kernels {

// Where the cosines and sines of the current token lie in shared memory.
struct RopeTable {
  float* cosine;  // [kMaxRotaryDim / 2]
  float* sine;    // [kMaxRotaryDim / 2]
};

// The 2 * vec_elems elements of `vec_elems` neighbouring pairs of one head, from pair `first` on.
template <RopeConfig c, class Out>
inline void rotate_pairs(const tile::storage_t<c.dtype>* in, Out* out, int first, int rotary_dim,
                         float factor, const RopeTable& table) {
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
    if constexpr (sizeof(Out) == 1) {
      y[a0][i0] *= factor;
      y[a1][i1] *= factor;
    }
  }
  tile::store<kVec>(out + at0, y[0]);
  tile::store<kVec>(out + at1, y[1]);
}

template <RopeConfig c, class Out>
inline void copy_access(const tile::storage_t<c.dtype>* in, Out* out, float factor) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kVec = c.vec_elems;
  if constexpr (sizeof(Out) == sizeof(T)) {
    *reinterpret_cast<tile::Vec<T, kVec>*>(out) = tile::load_vec<kVec>(in);
  } else {
    float x[kVec];
    tile::load<kVec>(x, in);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] *= factor;
    tile::store<kVec>(out, x);
  }
}

template <RopeConfig c, DType out_dtype>
inline void rotate_heads(const RopeSide& side, i64 token, PageSlot to, const RopeTable& table) {
  using T = tile::storage_t<c.dtype>;
  using Out = tile::storage_t<out_dtype>;
  constexpr int kVec = c.vec_elems;
  if (side.paged && to.page < 0) return;
  const T* in = static_cast<const T*>(side.in) + token * side.in_token_stride;
  Out* out = static_cast<Out*>(side.out);
  out += side.paged ? to.page * side.out_page_stride + to.slot * side.out_token_stride
                    : token * side.out_token_stride;
  const int rotated = side.rotary_dim / 2 / kVec;  // accesses a head that turn; the others copy
  const int units = rotated + (side.head_dim - side.rotary_dim) / kVec;
#pragma unroll 1
  for (int i = tile::thread_index(); i < side.num_heads * units; i += c.threads) {
    const int head = i / units, unit = i - head * units;
    float factor = 1;
    if constexpr (is_fp8(out_dtype)) {
      factor =
          side.scales != nullptr ? 1.f / side.scales[head * side.scale_head_stride] : side.factor;
    }
    const T* head_in = in + head * side.in_head_stride;
    Out* head_out = out + head * side.out_head_stride;
    if (unit < rotated) {
      rotate_pairs<c>(head_in, head_out, unit * kVec, side.rotary_dim, factor, table);
    } else {
      const int at = side.rotary_dim + (unit - rotated) * kVec;
      copy_access<c>(head_in + at, head_out + at, factor);
    }
  }
}

template <RopeConfig c>
inline void fill_table(const RopeParams& p, i64 token, const RopeTable& table) {
  const i64 position = rope_position<tile::storage_t<c.pos_dtype>>(p, c.positions, token);
  const int pairs = p.rotary_dim / 2;
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
  if (p.any_paged && token < p.to.nnz) to = find_page_slot(p.to, token);
  fill_table<c>(p, token, table);
  tile::sync_block();
  // One copy of the code for all sides: two would need more registers.
#pragma unroll 1
  for (int s = 0; s < kRopeQuerySides; ++s) {
    rotate_heads<c, c.q_out_dtype>(p.sides[s], token, to, table);
  }
#pragma unroll 1
  for (int s = kRopeQuerySides; s < kRopeSides; ++s) {
    rotate_heads<c, c.k_out_dtype>(p.sides[s], token, to, table);
  }
}

}  // namespace quire::kernels
