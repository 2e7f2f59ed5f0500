// Sixteen bytes from global memory to registers or to shared memory.
#pragma once

#include "tile/cp_async.h"
#include "tile/vec.h"

namespace quire::kernels {

// Sixteen bytes; `aligned`: src is a multiple of 16.
template <bool aligned>
inline tile::Vec<u32, 4> load_16_bytes(const u8* src) {
  if constexpr (aligned) {
    return *reinterpret_cast<const tile::Vec<u32, 4>*>(src);
  } else {
    tile::Vec<u32, 4> v{};
#pragma unroll
    for (int i = 0; i < 16; ++i) v.data[i / 4] |= static_cast<u32>(src[i]) << (i % 4 * 8);
    return v;
  }
}

// Eight 16-bit elements to shared memory, or zeros. `aligned`: both addresses are multiples of 16
// and the copy is asynchronous. Else only dst is.
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
