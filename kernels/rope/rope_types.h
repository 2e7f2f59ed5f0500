// What rotary position embedding shares between host and device.
#pragma once

#include "append/append_types.h"

namespace quire::kernels {

constexpr i32 kMaxRotaryDim = 512;

enum class RopePositions : u8 {
  ids,     // one a token
  ragged,  // requests of neighbouring tokens: indptr and an offset a request
};

constexpr const char* literal(RopePositions p) {
  return p == RopePositions::ids ? "RopePositions::ids" : "RopePositions::ragged";
}

struct RopeConfig {
  DType dtype = DType::bf16;
  DType q_out_dtype = DType::bf16;  // of the sides of q: dtype, or fp8
  DType k_out_dtype = DType::bf16;  // of the sides of k and v: dtype, or fp8
  RopePositions positions = RopePositions::ids;
  DType pos_dtype = DType::i32;  // i32 or i64
  bool cached = false;           // cosines and sines are read, not computed
  DType cache_dtype = DType::f32;
  bool interleave = false;  // pairs (2i, 2i + 1), else (i, i + rotary_dim / 2)
  i32 vec_elems = 1;  // elements an access; divides rotary_dim / 2, head dims and every stride
  i32 threads = 128;  // a block
  i32 units_per_thread = 1;  // read before the table is there

  bool operator==(const RopeConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const RopeConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("q_out_dtype", c.q_out_dtype);
  visit("k_out_dtype", c.k_out_dtype);
  visit("positions", c.positions);
  visit("pos_dtype", c.pos_dtype);
  visit("cached", c.cached);
  visit("cache_dtype", c.cache_dtype);
  visit("interleave", c.interleave);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("units_per_thread", c.units_per_thread);
}

// One tensor of tokens. Strides in elements.
struct RopeSide {
  const void* in;  // [nnz, num_heads, head_dim]
  void* out;       // [nnz, num_heads, head_dim], may be in; or a pool, [pages, page_size, …]
  i64 in_token_stride, in_head_stride;
  i64 out_token_stride, out_head_stride;
  i64 out_page_stride;
  const float* scales;    // [1] or [num_heads], or null: an fp8 out is divided by them
  i32 scale_head_stride;  // 0 or 1
  float factor;           // without scales, an fp8 out is multiplied by it
  i32 num_heads, head_dim;
  i32 rotary_dim;  // 0: nothing turns
  bool paged;      // out's token is a slot of a page
};

constexpr int kRopeQuerySides = 2, kRopeSides = 5;

struct RopeParams {
  RopeSide sides[kRopeSides];  // q (its parts), then k and v. Unused ones have no heads
  const void* pos_ids;         // [nnz], of pos_dtype
  const void* indptr;          // [num_requests + 1], of pos_dtype
  const void* offsets;         // [num_requests], of pos_dtype
  const void* cos_sin_cache;   // [max_position, rotary_dim]: cosines, then sines
  i64 pos_ids_stride, indptr_stride, offsets_stride, cache_stride;  // elements
  i64 max_position;
  SlotLookup to;  // of sides that are paged
  i32 nnz, num_requests, rotary_dim;
  i32 num_units;  // of a token, set by the CUDA backend
  bool any_paged;
  float table_factor;  // on computed cosines and sines
  // Radians a position, of pair i. Computed in double and rounded, so that every backend turns by
  // the same angles: f32(position) * inv_freq[i], rounded to f32, as models were trained.
  float inv_freq[kMaxRotaryDim / 2];
};

// The position of a token by its request. Bounded for any bytes; tokens of no request are at 0.
template <class Index>
constexpr i64 ragged_position(const RopeParams& p, i64 token) {
  const Index* indptr = static_cast<const Index*>(p.indptr);
  i32 low = 0, high = p.num_requests;  // the last request that begins at or before the token
  while (high - low > 1) {
    const i32 middle = low + (high - low) / 2;
    if (static_cast<i64>(indptr[middle * p.indptr_stride]) <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  if (p.num_requests == 0 || token >= static_cast<i64>(indptr[(low + 1) * p.indptr_stride])) {
    return 0;
  }
  return static_cast<i64>(static_cast<const Index*>(p.offsets)[low * p.offsets_stride]) + token -
         static_cast<i64>(indptr[low * p.indptr_stride]);
}

template <class Index>
constexpr i64 rope_position(const RopeParams& p, RopePositions positions, i64 token) {
  if (positions == RopePositions::ragged) return ragged_position<Index>(p, token);
  return static_cast<const Index*>(p.pos_ids)[token * p.pos_ids_stride];
}

}  // namespace quire::kernels
