// Kernels run one after the other here. Twin of kernels/tile/launch_order.h.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

inline void wait_for_kernels_before() {}
inline void let_next_kernel_start() {}

}  // namespace quire::tile
