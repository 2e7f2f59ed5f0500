// Wide loads and stores of global memory. GPU and emulator.
#pragma once

#include "tile/convert.h"

namespace quire::tile {

// N elements of T moved as one access; N * sizeof(T) is 1, 2, 4, 8 or 16 and the address a
// multiple.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T data[N];
};

template <int N, class T>
inline Vec<T, N> load_vec(const T* src) {
  return *reinterpret_cast<const Vec<T, N>*>(src);
}

template <class T, int N>
inline Vec<T, N> pack(const float (&src)[N]) {
  Vec<T, N> v;
#pragma unroll
  for (int i = 0; i < N; ++i) v.data[i] = from_float<T>(src[i]);
  return v;
}

// N elements in accesses of `access` elements.
template <int access, int N, class T>
inline void load_by(float (&dst)[N], const T* src) {
#pragma unroll
  for (int i = 0; i < N; i += access) {
    const Vec<T, access> v = load_vec<access>(src + i);
#pragma unroll
    for (int j = 0; j < access; ++j) dst[i + j] = to_float(v.data[j]);
  }
}

// In one access, or in several of 16 bytes.
template <int N, class T>
inline void load(float (&dst)[N], const T* src) {
  load_by<min_of(N, static_cast<int>(16 / sizeof(T)))>(dst, src);
}

// Four 8-bit elements in 32 bits, the first in the lowest byte. Magnitudes beyond the largest one
// become it; NaN stays NaN.
template <class F8>
inline u32 narrow4(float x0, float x1, float x2, float x3) {
  return narrow2<F8>(x0, x1) | narrow2<F8>(x2, x3) << 16;
}

template <int N, class T>
inline void store(T* dst, const float (&src)[N]) {
  if constexpr (sizeof(T) == 2 && N > 1) {
    // By pairs: one conversion for two elements, and whole words, which NVRTC joins to one access.
    Vec<u32, N / 2> v;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) v.data[i] = pack2<T>(src[2 * i], src[2 * i + 1]);
    *reinterpret_cast<Vec<u32, N / 2>*>(dst) = v;
  } else if constexpr (sizeof(T) == 1 && N % 4 == 0) {
    Vec<u32, N / 4> v;
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const float* x = src + 4 * i;
      v.data[i] = narrow4<T>(x[0], x[1], x[2], x[3]);
    }
    *reinterpret_cast<Vec<u32, N / 4>*>(dst) = v;
  } else {
    *reinterpret_cast<Vec<T, N>*>(dst) = pack<T>(src);
  }
}

template <int access, int N, class T>
inline void store_by(T* dst, const float (&src)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += access) {
    float piece[access];
#pragma unroll
    for (int j = 0; j < access; ++j) piece[j] = src[i + j];
    store<access>(dst + i, piece);
  }
}

}  // namespace quire::tile
