// Asynchronous copies from global to shared memory (sm_80 and up). GPU side.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// Brings the line of an address to L2, without waiting.
inline void prefetch_to_l2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p) : "memory");
}

namespace cp_async {

// Copies 16 bytes, or writes 16 zero bytes when !valid; src must then still be a mapped address.
// Both addresses are multiples of 16. There is no form with a cache hint: ptxas 13.0 encodes some
// of those wrongly, and they stop as illegal instructions.
inline void copy16(void* dst, const void* src, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(src),
               "r"(valid ? 16 : 0)
               : "memory");
}
// Closes a group of this thread's copies.
inline void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of this thread's latest groups are unfinished. Other threads see
// the data after a barrier.
template <int pending>
inline void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace cp_async
}  // namespace quire::tile
