// A tensor map, as the driver's cuTensorMapEncodeTiled writes it. Host, GPU and emulator.
#pragma once

#include "dtype.h"

namespace quire::tile {

// Lives in kernel parameters.
struct alignas(64) TensorMap {
  kernels::u64 opaque[16];
};

}  // namespace quire::tile
