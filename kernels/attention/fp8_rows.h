// Rows of an fp8 cache on their way to shared memory: 16 bytes at a time through registers, since
// they are converted to the type of q there. Between load() and store() the loads are in flight.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "tile/thread.h"
#include "tile/vec.h"

namespace quire::kernels {

// Where the rows of a step live, by row: a page, or -1 for a row that is absent, and the row of it.
struct RowTable {
  const i32* page;
  const i32* slot;
};

// K or V of one head.
struct Fp8Source {
  const u8* begin;
  i64 page_stride, token_stride;
};

// Sixteen bytes; `aligned`: src is a multiple of 16.
template <bool aligned>
inline tile::Vec<u32, 4> load_16_bytes(const u8* src) {
  if constexpr (aligned) {
    return *reinterpret_cast<const tile::Vec<u32, 4>*>(src);
  } else {
    tile::Vec<u32, 4> v{};
#pragma unroll
    for (int i = 0; i < 16; ++i) v.data[i / 4] |= static_cast<u32>(src[i]) << (i % 4 * 8);
    return v;
  }
}

// A thread's share of tile_kv rows. row_elems: elements between rows in shared memory.
template <AttentionConfig c, int head_dim, int row_elems>
struct Fp8Rows {
  static constexpr int kThreads = sm80_layout(c).threads;
  static constexpr int kChunks = head_dim / 16;  // of a row
  static constexpr int kTotal = c.tile_kv * kChunks;
  static constexpr int kMine = (kTotal + kThreads - 1) / kThreads;

  tile::Vec<u32, 4> chunks[kMine];

  // Eight threads in turn store 32 bytes each. Four chunks each of two rows, not eight of one, fall
  // into different banks: rows are an odd number of 16 bytes apart.
  static constexpr bool kPairs = kChunks % 4 == 0;
  // Whether all that a thread has is one chunk of every kRowStep-th row: addresses then differ by
  // constants, which saves 18 of 224 registers at head_dim 128, tile_q 16 (NVRTC 13.0, sm_80).
  static constexpr bool kSameChunk = kThreads % (kPairs ? 2 * kChunks : kChunks) == 0;
  static constexpr int kRowStep = kThreads / kChunks;

  struct Place {
    int row, chunk;
  };
  static Place place(int n) {
    const int i = tile::thread_index() + (kSameChunk ? 0 : n * kThreads);
    const int first_row = kSameChunk ? n * kRowStep : 0;
    if constexpr (kPairs) {
      const int fours = i / 4, row_pair = fours / (kChunks / 2);
      return {first_row + row_pair * 2 + fours % 2, fours / 2 % (kChunks / 4) * 4 + i % 4};
    } else {
      return {first_row + i / kChunks, i % kChunks};
    }
  }
  static bool is_mine(int n) {
    return kTotal % kThreads == 0 || tile::thread_index() + n * kThreads < kTotal;
  }

  void load(const Fp8Source& src, const RowTable& rows) {
#pragma unroll
    for (int n = 0; n < kMine; ++n) load(n, src, rows);
  }
  void store(u8* stage) const {
#pragma unroll
    for (int n = 0; n < kMine; ++n) store(n, stage);
  }
  // Both, two chunks at a time: their registers are all it takes.
  void copy(const Fp8Source& src, const RowTable& rows, u8* stage) {
#pragma unroll
    for (int n = 0; n < kMine; ++n) {
      load(n, src, rows);
      if (n % 2 == 0 && n + 1 < kMine) continue;
      if (n % 2 == 1) store(n - 1, stage);
      store(n, stage);
    }
  }

 private:
  void load(int n, const Fp8Source& src, const RowTable& rows) {
    chunks[n] = {};
    if (!is_mine(n)) return;
    const Place at = place(n);
    const int page = rows.page[at.row];
    if (page < 0) return;
    chunks[n] = load_16_bytes<c.aligned>(src.begin + page * src.page_stride +
                                         rows.slot[at.row] * src.token_stride + at.chunk * 16);
  }
  void store(int n, u8* stage) const {
    using F8 = tile::storage_t<c.kv_dtype>;
    using T = tile::storage_t<c.q_dtype>;
    if (!is_mine(n)) return;
    const Place at = place(n);
    u32 wide[8];
    tile::widen16<F8, T>(wide, chunks[n].data);
    auto* dst =
        reinterpret_cast<tile::Vec<u32, 4>*>(stage + at.row * (row_elems * 2)) + at.chunk * 2;
    dst[0] = {wide[0], wide[1], wide[2], wide[3]};
    dst[1] = {wide[4], wide[5], wide[6], wide[7]};
  }
};

// When the fp8 rows of a step are loaded and stored, with the step before computed in between.
enum class Staging {
  together,  // K and V before its products, stored after them
  in_turn,   // K before the first product, stored after it; then V, stored after the second
  late,      // both after the products: the loads are in flight for other warps only
};

// K and V of a step, while they are fp8.
template <AttentionConfig c>
struct StagedFp8 {
  Fp8Rows<c, c.head_dim_qk, sm80_layout(c).qk_row> k;
  Fp8Rows<c, c.head_dim_vo, sm80_layout(c).vo_row> v;

  static constexpr Staging staging() {
    // Registers of a thread beside those of the rows. The bounds are where NVRTC 13.0 begins to
    // spill: prefill tiles of head_dim 256 only.
    const int accumulators = c.row_tiles * (c.head_dim_vo / 2 + sm80_layout(c).slice_kv / 2);
    const int chunks = decltype(k)::kMine + decltype(v)::kMine;
    if (chunks <= 8 && accumulators + 4 * chunks <= 160) return Staging::together;
    return accumulators <= 136 ? Staging::in_turn : Staging::late;
  }
};
struct NothingStaged {};  // 16-bit rows need no registers

template <bool converts, AttentionConfig c>
struct StagedOf {
  using type = NothingStaged;
};
template <AttentionConfig c>
struct StagedOf<true, c> {
  using type = StagedFp8<c>;
};
template <AttentionConfig c>
using StagedKv = typename StagedOf<is_fp8(c.kv_dtype), c>::type;

}  // namespace quire::kernels
