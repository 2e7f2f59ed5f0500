// Asynchronous copies from global to shared memory. Twin of kernels/tile/cp_async.h: the data land
// when the thread waits for their group and not before.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline void prefetch_to_l2(const void* p, emulator::Site site = emulator::here()) {
  emulator::check_global(p, 1, "prefetch_to_l2", site);
}

namespace cp_async {

inline void copy16(void* dst, const void* src, bool valid, emulator::Site site = emulator::here()) {
  emulator::check_shared(dst, 16, "cp_async::copy16: destination", site);
  // Else nothing is read, and the address may be any.
  if (valid) emulator::check_global(src, 16, "cp_async::copy16: source", site);
  // From now on the hardware may write at any time: whoever reads before the wait reads NaN.
  auto* words = static_cast<u64*>(dst);
  words[0] = words[1] = ~0ull;
  emulator::queue_copy({dst, valid ? src : nullptr});
}

inline void commit() { emulator::commit_copies(); }

template <int pending>
inline void wait() {
  emulator::PendingCopy copy;
  while (emulator::take_copy(pending, copy)) {
    auto* dst = static_cast<u64*>(copy.dst);
    const auto* src = static_cast<const u64*>(copy.src);
    dst[0] = src != nullptr ? src[0] : 0;
    dst[1] = src != nullptr ? src[1] : 0;
  }
}

}  // namespace cp_async
}  // namespace quire::tile
