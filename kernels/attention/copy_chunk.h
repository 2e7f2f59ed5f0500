// Eight 16-bit elements from global to shared memory, or zeros.
#pragma once

#include "tile/cp_async.h"
#include "tile/vec.h"

namespace quire::kernels {

// `aligned`: both addresses are multiples of 16 and the copy is asynchronous. Else only dst is.
template <bool aligned>
inline void copy_chunk(u16* dst, const u16* src, bool valid) {
  if constexpr (aligned) {
    tile::cp_async::copy16(dst, src, valid);
  } else {
    tile::Vec<u16, 8> v;
#pragma unroll
    for (int i = 0; i < 8; ++i) v.data[i] = valid ? src[i] : u16{0};
    *reinterpret_cast<tile::Vec<u16, 8>*>(dst) = v;
  }
}

}  // namespace quire::kernels
