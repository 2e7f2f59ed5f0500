// Writes new K and V rows to their pages: copied, or divided by a scale and rounded to fp8.
//
// Grid:   a block a row
// Block:  c.threads, over the accesses of all heads of the row, of K, then of V
// Smem:   none
// Output: the pools' slots that the rows name; rows that lead outside the table are skipped
// Needs:  any GPU
#pragma once

#include "append/append_types.h"
#include "tile/word.h"

namespace quire::kernels {

template <AppendConfig c>
inline void append_access(const u8* src, u8* dst, [[maybe_unused]] float inverse) {
  if constexpr (c.dtype == c.cache_dtype) {
    using Word = tile::word_t<c.word_bytes>;
    *reinterpret_cast<Word*>(dst) = *reinterpret_cast<const Word*>(src);
  } else {
    constexpr int kVec = c.word_bytes / size_bytes(c.dtype);
    float x[kVec];
    tile::load<kVec>(x, reinterpret_cast<const tile::storage_t<c.dtype>*>(src));
#pragma unroll
    for (int i = 0; i < kVec; ++i) x[i] *= inverse;
    tile::store<kVec>(reinterpret_cast<tile::storage_t<c.cache_dtype>*>(dst), x);
  }
}

// Access number i of a row.
template <AppendConfig c>
inline void append_word(const AppendSide& side, i64 row, PageSlot to, int i) {
  constexpr int kCacheBytes = c.word_bytes / size_bytes(c.dtype) * size_bytes(c.cache_dtype);
  const u8* src = static_cast<const u8*>(side.rows) + row * side.row_stride_bytes;
  u8* dst = static_cast<u8*>(side.pool) + to.page * side.page_stride_bytes +
            to.slot * side.token_stride_bytes;
  const int words_per_head = side.head_bytes / c.word_bytes;
  const int head = i / words_per_head, word = i - head * words_per_head;
  float inverse = 1;
  if constexpr (c.dtype != c.cache_dtype) {
    inverse = 1.f / (side.scales != nullptr ? side.scales[head * side.scale_head_stride]
                                            : side.scale_value);
  }
  append_access<c>(src + head * side.row_head_stride_bytes + word * c.word_bytes,
                   dst + head * side.head_stride_bytes + word * kCacheBytes, inverse);
}

template <AppendConfig c>
void append_paged_kv(const AppendParams& p) {
  const i64 row = tile::block_index();
  const PageSlot to = find_page_slot(p.to, row);
  if (to.page < 0) return;
  const int k_words = p.num_kv_heads * (p.k.head_bytes / c.word_bytes);
  const int words = k_words + p.num_kv_heads * (p.v.head_bytes / c.word_bytes);
  for (int i = tile::thread_index(); i < words; i += c.threads) {
    if (i < k_words) {
      append_word<c>(p.k, row, to, i);
    } else {
      append_word<c>(p.v, row, to, i - k_words);
    }
  }
}

}  // namespace quire::kernels
