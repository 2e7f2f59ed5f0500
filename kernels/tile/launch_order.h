// How a kernel follows the one before it in its stream. GPU side; emulator/tile has the twin.
#pragma once

#include "tile/thread.h"

namespace quire::tile {

// From sm_90 on kernels are launched to start early (src/cuda/launch.cpp). Behind this, the kernels
// before this one have ended, and what they wrote is seen; nothing global is touched before.
inline void wait_for_kernels_before() {
  if constexpr (kArch >= 900) asm volatile("griddepcontrol.wait;" ::: "memory");
}
// When all blocks have come here, or ended, the next kernel may start, which waits as above. Only
// after waiting: a kernel of others may rely on all but the one before it having ended.
inline void let_next_kernel_start() {
  if constexpr (kArch >= 900) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace quire::tile
