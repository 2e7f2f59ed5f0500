// Clusters: blocks that run at the same time and reach each other's shared memory. A block's rank
// is its index modulo the size of the cluster. GPU side, sm_90 and up; emulator/tile has the twin.
#pragma once

#include "tile/thread.h"

namespace quire::tile::cluster {

// All threads of all blocks of the cluster meet; orders their memory. Not the aligned form: the
// lanes of a warp may come here one after the other.
inline void sync() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// The same, but orders only what blocks have written to their own shared memory, which others read
// behind it: no thread waits for its accesses of global memory.
inline void sync_own_shared() {
#if __CUDACC_VER_MAJOR__ >= 13
  asm volatile(
      "fence.release.sync_restrict::shared::cta.cluster;\n\t"
      "barrier.cluster.arrive.relaxed;" ::
          : "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#else
  sync();
#endif
}

// Where block number `rank` of the cluster has what this block has at `shared`. A block must not
// end while others use its memory.
template <class T>
inline T* shared_of(T* shared, int rank) {
  u64 address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(shared), "r"(rank));
  return reinterpret_cast<T*>(address);
}

}  // namespace quire::tile::cluster
