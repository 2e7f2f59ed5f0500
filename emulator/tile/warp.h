// Warp collectives: every lane of the warp must call them. Twin of kernels/tile/warp.h.
#pragma once

#include "tile/math.h"

namespace quire::tile::warp {

using emulator::here;
using emulator::Site;

template <class T>
inline T shuffle_from(T x, int lane, Site site) {
  const emulator::Deposit mine{{__builtin_bit_cast(u32, x)}};
  const emulator::Deposit* all = emulator::exchange(emulator::Collective::shuffle, mine, site);
  return __builtin_bit_cast(T, all[lane & 31].words[0]);
}
inline u32 ballot(bool predicate, Site site = here()) {
  const emulator::Deposit mine{{predicate ? 1u : 0u}};
  const emulator::Deposit* all = emulator::exchange(emulator::Collective::vote, mine, site);
  u32 mask = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) mask |= all[lane].words[0] << lane;
  return mask;
}

inline float shuffle_xor(float x, int mask, Site site = here()) {
  return shuffle_from(x, lane_index() ^ mask, site);
}
inline u32 shuffle_xor(u32 x, int mask, Site site = here()) {
  return shuffle_from(x, lane_index() ^ mask, site);
}
inline int shuffle_xor(int x, int mask, Site site = here()) {
  return shuffle_from(x, lane_index() ^ mask, site);
}
inline float shuffle(float x, int lane, Site site = here()) { return shuffle_from(x, lane, site); }
inline int shuffle(int x, int lane, Site site = here()) { return shuffle_from(x, lane, site); }
inline u32 shuffle(u32 x, int lane, Site site = here()) { return shuffle_from(x, lane, site); }
// The value `delta` lanes below; own value where there is none.
inline float shuffle_up(float x, int delta, Site site = here()) {
  return shuffle_from(x, lane_index() < delta ? lane_index() : lane_index() - delta, site);
}
inline int shuffle_up(int x, int delta, Site site = here()) {
  return shuffle_from(x, lane_index() < delta ? lane_index() : lane_index() - delta, site);
}
inline bool any(bool predicate, Site site = here()) { return ballot(predicate, site) != 0; }
inline bool all(bool predicate, Site site = here()) { return ballot(predicate, site) == kFullWarp; }

// Over groups of `width` neighbouring lanes (a power of two).
template <int width = 32>
inline float sum(float x, Site site = here()) {
  for (int m = width / 2; m > 0; m /= 2) x += shuffle_xor(x, m, site);
  return x;
}
template <int width = 32>
inline float max(float x, Site site = here()) {
  for (int m = width / 2; m > 0; m /= 2) x = max_f32(x, shuffle_xor(x, m, site));
  return x;
}
template <int width = 32>
inline int sum(int x, Site site = here()) {
  for (int m = width / 2; m > 0; m /= 2) x += shuffle_xor(x, m, site);
  return x;
}

}  // namespace quire::tile::warp
