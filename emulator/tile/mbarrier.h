// Barriers in shared memory that threads and the copy engine arrive at. Twin of
// kernels/tile/mbarrier.h. The word is an ordinary variable here: using it without a barrier after
// init() is a data race for the thread sanitizer.
#pragma once

#include "tile/cp_async.h"

namespace quire::tile {

struct alignas(8) Mbarrier {
  u64 word;

  void init(int arrivals, emulator::Site site = emulator::here()) {
    word = emulator::mbarrier_init(&word, arrivals, site);
  }
  void arrive(emulator::Site site = emulator::here()) {
    emulator::mbarrier_arrive(&word, word, 0, site);
  }
  void arrive_expect(int bytes, emulator::Site site = emulator::here()) {
    emulator::mbarrier_arrive(&word, word, bytes, site);
  }
  void arrive_after_copies(emulator::Site site = emulator::here()) {
    emulator::mbarrier_arrive_after_copies(&word, word, site);
  }
  // Others run before a thread is told that it must wait.
  bool test(u32 parity, emulator::Site site = emulator::here()) {
    return emulator::mbarrier_test(&word, word, parity, site);
  }
  void wait(u32 parity, emulator::Site site = emulator::here()) {
    emulator::mbarrier_wait(&word, word, parity, site);
  }
};

inline void fence_mbarrier_init() { emulator::mbarrier_fence_init(); }

}  // namespace quire::tile
