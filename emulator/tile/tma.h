// Copies of boxes of a tensor by the copy engine. Twin of kernels/tile/tma.h: the data land when
// somebody waits for them and not before.
#pragma once

#include "tile/mbarrier.h"
#include "tile/tensor_map_types.h"

namespace quire::tile {

struct CachePolicy {};  // nothing here has a cache
inline CachePolicy evict_first() { return {}; }
inline CachePolicy evict_normal() { return {}; }
inline CachePolicy evict_unchanged() { return {}; }

namespace tma {

inline void prefetch_4d(const TensorMap& map, int, int, int, int,
                        emulator::Site site = emulator::here()) {
  emulator::check_tensor_map(map.opaque, site);
}

template <int rank>
inline void load_box(void* dst, const TensorMap& map, Mbarrier& full, const int (&at)[rank],
                     emulator::Site site) {
  const emulator::Box box =
      emulator::start_box(dst, map.opaque, at, rank, &full.word, full.word, site);
  // From now on the hardware may write at any time: whoever reads before the wait reads NaN, and
  // whoever still read the last tile is in a race.
  auto* words = reinterpret_cast<u64*>(box.dst);
  for (int i = 0; i < box.bytes / 8; ++i) words[i] = ~0ull;
#if defined(__SANITIZE_THREAD__)
  for (int row = 0; row < box.num_rows; ++row) {
    int bytes;
    const u8* src = emulator::box_row(row, bytes);
    for (int i = 0; i < bytes; i += 16)
      static_cast<void>(*static_cast<const volatile u8*>(src + i));
  }
#endif
  emulator::queue_box();
}

inline void load_4d(void* dst, const TensorMap& map, Mbarrier& full, int c0, int c1, int c2, int c3,
                    emulator::Site site = emulator::here()) {
  load_box(dst, map, full, {c0, c1, c2, c3}, site);
}
inline void load_5d(void* dst, const TensorMap& map, Mbarrier& full, CachePolicy,
                    const int (&at)[5], emulator::Site site = emulator::here()) {
  load_box(dst, map, full, at, site);
}

// Shared memory is read, and the tensor written, when the thread waits.
inline void store_4d(const TensorMap& map, const void* src, int c0, int c1, int c2, int c3,
                     emulator::Site site = emulator::here()) {
  const int coordinates[4] = {c0, c1, c2, c3};
  emulator::issue_store(src, map.opaque, coordinates, 4, site);
}
inline void commit_stores() { emulator::commit_stores(); }
inline void wait_stores_read(emulator::Site site = emulator::here()) {
  emulator::StorePiece piece;
  while (emulator::take_store_piece(piece, site)) {
    for (int i = 0; i < piece.bytes; ++i) piece.dst[i] = piece.src[piece.first + i];
  }
}

}  // namespace tma

inline void fence_async_proxy() { emulator::fence_async_proxy(); }

}  // namespace quire::tile
