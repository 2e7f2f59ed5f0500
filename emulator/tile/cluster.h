// Clusters of blocks that reach each other's shared memory. Twin of kernels/tile/cluster.h.
#pragma once

#include "tile/thread.h"

namespace quire::tile::cluster {

inline void sync(emulator::Site site = emulator::here()) { emulator::sync_cluster(site); }

inline void sync_own_shared(emulator::Site site = emulator::here()) {
  emulator::sync_cluster(site);
}

template <class T>
inline T* shared_of(T* shared, int rank, emulator::Site site = emulator::here()) {
  return reinterpret_cast<T*>(emulator::shared_of_block(shared, rank, site));
}

}  // namespace quire::tile::cluster
