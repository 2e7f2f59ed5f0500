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

}  // namespace quire::tile
