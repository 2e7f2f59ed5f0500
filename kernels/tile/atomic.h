// Atomics on global and shared memory, relaxed where nothing else is said, device scope. GPU side.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline int atomic_add(int* p, int x) { return atomicAdd(p, x); }
inline u32 atomic_add(u32* p, u32 x) { return atomicAdd(p, x); }
inline float atomic_add(float* p, float x) { return atomicAdd(p, x); }
inline int atomic_min(int* p, int x) { return atomicMin(p, x); }
inline int atomic_max(int* p, int x) { return atomicMax(p, x); }
inline u32 atomic_max(u32* p, u32 x) { return atomicMax(p, x); }

// Counts 0, 1, … last, 0, …; returns the value before. Not relaxed: what the thread, and by a block
// barrier its block, did before is seen by whoever counts later, and by his block after a barrier.
inline u32 atomic_count(u32* p, u32 last) {
  u32 old;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(p), "r"(last)
               : "memory");
  return old;
}

}  // namespace quire::tile
