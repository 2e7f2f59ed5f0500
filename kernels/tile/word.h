// Moving bytes without looking at them: one access of 1, 2, 4, 8 or 16 bytes. GPU and emulator.
#pragma once

#include "tile/vec.h"

namespace quire::tile {

template <int bytes>
struct Word;
template <>
struct Word<1> {
  using type = u8;
};
template <>
struct Word<2> {
  using type = u16;
};
template <>
struct Word<4> {
  using type = u32;
};
template <>
struct Word<8> {
  using type = u64;
};
template <>
struct Word<16> {
  using type = Vec<u64, 2>;
};

// A value-initialised word is all zero bytes.
template <int bytes>
using word_t = typename Word<bytes>::type;

// The elements in 4 bytes, the first in the lowest.
template <class T>
inline void unpack4_bytes(float (&dst)[4 / sizeof(T)], u32 bytes) {
  if constexpr (sizeof(T) == 4) {
    dst[0] = float_from_bits(bytes);
  } else if constexpr (sizeof(T) == 2) {
    unpack2<T>(dst[0], dst[1], bytes);
  } else {
    u32 halves[2];
    widen4<T>(halves, bytes);
    unpack2<f16>(dst[0], dst[1], halves[0]);
    unpack2<f16>(dst[2], dst[3], halves[1]);
  }
}

// N elements as they lie in memory. Kept like this they take the fewest registers, and the compiler
// unpacks them with one instruction each; of structs of 16-bit elements it makes two.
template <int N, class T>
inline word_t<N * sizeof(T)> load_word(const T* src) {
  return *reinterpret_cast<const word_t<N * sizeof(T)>*>(src);
}

template <class T, int N>
inline void unpack_word(float (&dst)[N], word_t<N * sizeof(T)> word) {
  if constexpr (N * sizeof(T) < 4) {
    const auto elements = __builtin_bit_cast(Vec<T, N>, word);
#pragma unroll
    for (int i = 0; i < N; ++i) dst[i] = to_float(elements.data[i]);
  } else {
    constexpr int kPerWord = 4 / sizeof(T);
    const auto words = __builtin_bit_cast(Vec<u32, N / kPerWord>, word);
#pragma unroll
    for (int i = 0; i < N; i += kPerWord) {
      float x[kPerWord];
      unpack4_bytes<T>(x, words.data[i / kPerWord]);
#pragma unroll
      for (int j = 0; j < kPerWord; ++j) dst[i + j] = x[j];
    }
  }
}

template <class T, int N>
inline word_t<N * sizeof(T)> pack_word(const float (&src)[N]) {
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
    Vec<u32, N / 2> words;
#pragma unroll
    for (int i = 0; i < N; i += 2) words.data[i / 2] = pack2<T>(src[i], src[i + 1]);
    return __builtin_bit_cast(word_t<N * sizeof(T)>, words);
  } else {
    return __builtin_bit_cast(word_t<N * sizeof(T)>, pack<T>(src));
  }
}

// The largest magnitude of words of T; NaN loses. 16-bit elements are compared by pairs, as they
// are.
template <class T>
class LargestOfWords {
 public:
  template <int N>
  void add(word_t<N * sizeof(T)> word) {
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
      const auto words = __builtin_bit_cast(Vec<u32, N / 2>, word);
#pragma unroll
      for (int i = 0; i < N / 2; ++i) pair_ = max2<T>(pair_, words.data[i] & 0x7fff7fffu);
    } else {
      float x[N];
      unpack_word<T>(x, word);
#pragma unroll
      for (int i = 0; i < N; ++i) one_ = max_f32(one_, abs_f32(x[i]));
    }
  }

  float value() const {
    if constexpr (sizeof(T) == 2) {
      float x[2];
      unpack4_bytes<T>(x, pair_);
      return max_f32(one_, max_f32(x[0], x[1]));
    }
    return one_;
  }

 private:
  u32 pair_ = 0;
  float one_ = 0.f;
};

}  // namespace quire::tile
