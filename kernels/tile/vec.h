// Wide loads and stores of global memory. GPU and emulator.
#pragma once

#include "tile/convert.h"

namespace quire::tile {

// N elements of T moved as one access; N * sizeof(T) is 2, 4, 8 or 16 and the address a multiple.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T data[N];
};

template <int N, class T>
inline void load(float (&dst)[N], const T* src) {
  const Vec<T, N> v = *reinterpret_cast<const Vec<T, N>*>(src);
#pragma unroll
  for (int i = 0; i < N; ++i) dst[i] = to_float(v.data[i]);
}

template <int N, class T>
inline void store(T* dst, const float (&src)[N]) {
  if constexpr (sizeof(T) == 2 && N > 1) {
    // By pairs: one conversion for two elements, and whole words, which NVRTC joins to one access.
    Vec<u32, N / 2> v;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) v.data[i] = pack2<T>(src[2 * i], src[2 * i + 1]);
    *reinterpret_cast<Vec<u32, N / 2>*>(dst) = v;
  } else {
    Vec<T, N> v;
#pragma unroll
    for (int i = 0; i < N; ++i) v.data[i] = from_float<T>(src[i]);
    *reinterpret_cast<Vec<T, N>*>(dst) = v;
  }
}

}  // namespace quire::tile
