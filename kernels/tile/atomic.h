// Atomics on global and shared memory, relaxed, device scope. GPU side.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline int atomic_add(int* p, int x) { return atomicAdd(p, x); }
inline u32 atomic_add(u32* p, u32 x) { return atomicAdd(p, x); }
inline float atomic_add(float* p, float x) { return atomicAdd(p, x); }
inline int atomic_min(int* p, int x) { return atomicMin(p, x); }
inline int atomic_max(int* p, int x) { return atomicMax(p, x); }
inline u32 atomic_max(u32* p, u32 x) { return atomicMax(p, x); }

}  // namespace quire::tile
