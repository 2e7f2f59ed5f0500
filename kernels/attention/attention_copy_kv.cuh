// Brings K and V of requests in one piece, as the type of q: for kernels that read many times what
// small pages scatter or 8 bits code.
//
// Grid:   a warp for 32 tokens of a KV head; the heads of the same tokens side by side
// Block:  kCopyKvWarps warps
// Smem:   none
// Output: all of k and v; zeros where a page id or an index leads outside
// Needs:  any GPU; c: dtypes, head dims, aligned
#pragma once

#include "attention/attention_copy_kv_types.h"
#include "tile/warp.h"
#include "tile/word.h"

namespace quire::kernels {

// The place of one token in K and V; page -1: none.
struct TokenPlace {
  i32 page, row;
};

inline TokenPlace find_token(const CopyKvParams& params, i32 token) {
  const AttentionParams& p = params.attention;
  if (token >= params.num_tokens) return {-1, 0};
  i32 request = 0, end = p.batch_size;  // the last that begins at `token` or before
  while (end - request > 1) {
    const i32 middle = request + (end - request) / 2;
    (params.token_indptr[middle] <= token ? request : end) = middle;
  }
  const i64 base = p.kv_indptr[request];
  const i32 place = token - params.token_indptr[request];
  if (p.page_size == 0) {
    const i64 row = base + place;
    return row >= 0 && row < p.total_kv ? TokenPlace{0, static_cast<i32>(row)} : TokenPlace{-1, 0};
  }
  const i64 entry = base + place / p.page_size;
  const i32 page = entry >= 0 && entry < p.num_indices ? p.kv_indices[entry] : -1;
  return {static_cast<u32>(page) < static_cast<u32>(p.num_pages) ? page : -1, place % p.page_size};
}

// A head of K or of V.
struct KvSource {
  const void* data;
  i64 page_stride, token_stride;  // elements
};

template <AttentionConfig c, int head_dim>
inline void copy_tokens(const KvSource& source, TokenPlace place, void* copy, int num_tokens) {
  using From = tile::storage_t<c.kv_dtype>;
  using To = tile::storage_t<copied_dtype(c)>;
  constexpr int kVec = 16 / sizeof(To);  // elements an access
  constexpr int kChunks = head_dim / kVec, kInFlight = tile::min_of(kChunks, 8);
  using Chunk = tile::word_t<kVec * sizeof(From)>;
  const auto* from = static_cast<const From*>(source.data);
  auto* to = static_cast<To*>(copy);
  for (int first = 0; first < kChunks; first += kInFlight) {
    Chunk chunks[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int i = (first + j) * 32 + tile::lane_index();
      const int token = i / kChunks % 32, column = i % kChunks * kVec;
      const i32 page = tile::warp::shuffle(place.page, token);
      const i32 row = tile::warp::shuffle(place.row, token);
      chunks[j] = {};
      if (page < 0) continue;
      const From* src = from + page * source.page_stride + row * source.token_stride + column;
      if constexpr (c.aligned) {
        chunks[j] = tile::load_word<kVec>(src);
      } else {
        tile::Vec<From, kVec> elements;
#pragma unroll
        for (int e = 0; e < kVec; ++e) elements.data[e] = src[e];
        chunks[j] = __builtin_bit_cast(Chunk, elements);
      }
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int i = (first + j) * 32 + tile::lane_index();
      if (i >= num_tokens * kChunks) continue;
      To* dst = to + i * kVec;
      if constexpr (c.kv_dtype == copied_dtype(c)) {
        *reinterpret_cast<Chunk*>(dst) = chunks[j];
      } else {
        float x[kVec];
        tile::unpack_word<From>(x, chunks[j]);
        tile::store<kVec>(dst, x);
      }
    }
  }
}

template <AttentionConfig c>
inline void attention_copy_kv(const CopyKvParams& params) {
  const AttentionParams& p = params.attention;
  using From = tile::storage_t<c.kv_dtype>;
  using To = tile::storage_t<copied_dtype(c)>;
  const i64 unit = static_cast<i64>(tile::block_index()) * kCopyKvWarps + tile::warp_index();
  const i64 tile = unit / p.num_kv_heads;
  const i64 head = unit - tile * p.num_kv_heads;
  const i64 first = tile * kCopyKvTokens;
  if (first >= params.num_tokens) return;
  const int num_tokens =
      static_cast<int>(tile::min_of<i64>(kCopyKvTokens, params.num_tokens - first));
  const TokenPlace place = find_token(params, static_cast<i32>(first) + tile::lane_index());
  const i64 row = head * params.num_tokens + first;
  copy_tokens<c, c.head_dim_qk>(
      {static_cast<const From*>(p.k) + head * p.k_head_stride, p.k_page_stride, p.k_token_stride},
      place, static_cast<To*>(params.k) + row * c.head_dim_qk, num_tokens);
  copy_tokens<c, c.head_dim_vo>(
      {static_cast<const From*>(p.v) + head * p.v_head_stride, p.v_page_stride, p.v_token_stride},
      place, static_cast<To*>(params.v) + row * c.head_dim_vo, num_tokens);
}

}  // namespace quire::kernels
