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

// An access of a row: 16 bytes or fewer of a head of K or of V.
template <AppendConfig c>
class AppendAccess {
  using Word = tile::word_t<c.word_bytes>;
  static constexpr int kVec = c.word_bytes / size_bytes(c.dtype);

 public:
  // Number i of those of all heads of K, then of V. Reads it.
  void read(const AppendParams& p, i64 row, int i) {
    const int k_words = p.num_kv_heads * (p.k.head_bytes / c.word_bytes);
    is_key_ = i < k_words;
    if (!is_key_) i -= k_words;
    const AppendSide& side = is_key_ ? p.k : p.v;
    const u32 words_per_head = static_cast<u32>(side.head_bytes) / c.word_bytes;
    head_ = static_cast<u32>(i) / words_per_head;
    word_ = i - head_ * words_per_head;
    const u8* src = static_cast<const u8*>(side.rows) + row * side.row_stride_bytes +
                    head_ * side.row_head_stride_bytes + word_ * c.word_bytes;
    bytes_ = *reinterpret_cast<const Word*>(src);
  }

  void write(const AppendParams& p, PageSlot to) const {
    const AppendSide& side = is_key_ ? p.k : p.v;
    u8* dst = static_cast<u8*>(side.pool) + to.page * side.page_stride_bytes +
              to.slot * side.token_stride_bytes + head_ * side.head_stride_bytes +
              word_ * (kVec * size_bytes(c.cache_dtype));
    if constexpr (c.dtype == c.cache_dtype) {
      *reinterpret_cast<Word*>(dst) = bytes_;
    } else {
      using T = tile::storage_t<c.dtype>;
      const float inverse =
          1.f /
          (side.scales != nullptr ? side.scales[head_ * side.scale_head_stride] : side.scale_value);
      float x[kVec];
      tile::unpack_word<T>(x, bytes_);
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] *= inverse;
      tile::store<kVec>(reinterpret_cast<tile::storage_t<c.cache_dtype>*>(dst), x);
    }
  }

 private:
  Word bytes_;
  bool is_key_;
  u32 head_, word_;
};

template <AppendConfig c>
void append_paged_kv(const AppendParams& p) {
  constexpr int kAccesses = 2;  // in flight
  const i64 row = tile::block_index();
  const int words = p.num_kv_heads * ((p.k.head_bytes + p.v.head_bytes) / c.word_bytes);
  for (int first = tile::thread_index(); first < words; first += kAccesses * c.threads) {
    AppendAccess<c> accesses[kAccesses];
#pragma unroll
    for (int j = 0; j < kAccesses; ++j) {
      if (first + j * c.threads < words) accesses[j].read(p, row, first + j * c.threads);
    }
    // After the reads, which do not wait for it.
    const PageSlot to = find_page_slot(p.to, row);
    if (to.page < 0) return;
#pragma unroll
    for (int j = 0; j < kAccesses; ++j) {
      if (first + j * c.threads < words) accesses[j].write(p, to);
    }
  }
}

}  // namespace quire::kernels
