// Sixteen bytes from global to shared memory, or zeros.
#pragma once

#include "tile/cp_async.h"
#include "tile/vec.h"

namespace quire::kernels {

// `aligned`: both addresses are multiples of 16 and the copy is asynchronous. Else dst is, and src
// a multiple of an element.
template <bool aligned, class Element>
inline void copy_chunk(void* dst, const void* src, bool valid) {
  if constexpr (aligned) {
    tile::cp_async::copy16(dst, src, valid);
  } else {
    constexpr int kElements = 16 / sizeof(Element);
    tile::Vec<Element, kElements> v;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      v.data[i] = valid ? static_cast<const Element*>(src)[i] : Element{0};
    }
    *static_cast<tile::Vec<Element, kElements>*>(dst) = v;
  }
}

}  // namespace quire::kernels
