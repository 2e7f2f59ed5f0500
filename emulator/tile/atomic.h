// Atomics on global and shared memory, relaxed where nothing else is said. Twin of
// kernels/tile/atomic.h. Real atomics although the fibers of a launch share one thread: the thread
// sanitizer must see them as such.
#pragma once

#include "tile/math.h"

namespace quire::tile {

inline int atomic_add(int* p, int x) {
  const u32 old =
      __atomic_fetch_add(reinterpret_cast<u32*>(p), static_cast<u32>(x), __ATOMIC_RELAXED);
  return static_cast<int>(old);  // wraps, as on the GPU
}
inline u32 atomic_add(u32* p, u32 x) { return __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }

// *p = change(*p); returns what it was.
template <class T, class Change>
inline T atomic_update(T* p, Change change) {
  T old, next;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    next = change(old);
  } while (!__atomic_compare_exchange(p, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
inline float atomic_add(float* p, float x) {
  return atomic_update(p, [x](float old) { return old + x; });
}
inline int atomic_min(int* p, int x) {
  return atomic_update(p, [x](int old) { return x < old ? x : old; });
}
inline int atomic_max(int* p, int x) {
  return atomic_update(p, [x](int old) { return x > old ? x : old; });
}
inline u32 atomic_max(u32* p, u32 x) {
  return atomic_update(p, [x](u32 old) { return x > old ? x : old; });
}
inline u32 atomic_count(u32* p, u32 last) {
  u32 old, next;
  __atomic_load(p, &old, __ATOMIC_ACQUIRE);
  do {
    next = old >= last ? 0 : old + 1;
  } while (!__atomic_compare_exchange(p, &old, &next, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  return old;
}

}  // namespace quire::tile
