// Loads of what L2 holds, past L1: of what another kernel may still be writing, and is read again
// when that has ended. GPU side; emulator/tile has the twin.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline int load_uncached(const int* p) {
  int x;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
  return x;
}

inline float load_uncached(const float* p) {
  float x;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(p) : "memory");
  return x;
}

// In accesses of 16 bytes, to which src is aligned.
template <int N>
inline void load_uncached(float (&dst)[N], const float* src) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(dst[i]), "=f"(dst[i + 1]), "=f"(dst[i + 2]), "=f"(dst[i + 3])
                 : "l"(src + i)
                 : "memory");
  }
}

}  // namespace quire::tile
