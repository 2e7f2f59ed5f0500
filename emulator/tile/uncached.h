// Loads of what another kernel may still be writing. Twin of kernels/tile/uncached.h.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline int load_uncached(const int* p, emulator::Site site = emulator::here()) {
  emulator::check_global(p, sizeof(int), "load_uncached", site);
  return __atomic_load_n(p, __ATOMIC_RELAXED);
}

inline float load_uncached(const float* p, emulator::Site site = emulator::here()) {
  emulator::check_global(p, sizeof(float), "load_uncached", site);
  float x;
  __atomic_load(p, &x, __ATOMIC_RELAXED);
  return x;
}

template <int N>
inline void load_uncached(float (&dst)[N], const float* src,
                          emulator::Site site = emulator::here()) {
  emulator::check_global(src, 16, "load_uncached", site);
  for (int i = 0; i < N; ++i) dst[i] = load_uncached(src + i, site);
}

}  // namespace quire::tile
