// Warp collectives: every lane of the warp must call them. GPU side.
#pragma once

#include "tile/math.h"

namespace quire::tile::warp {

inline float shuffle_xor(float x, int mask) { return __shfl_xor_sync(kFullWarp, x, mask); }
inline u32 shuffle_xor(u32 x, int mask) { return __shfl_xor_sync(kFullWarp, x, mask); }
inline int shuffle_xor(int x, int mask) { return __shfl_xor_sync(kFullWarp, x, mask); }
inline float shuffle(float x, int lane) { return __shfl_sync(kFullWarp, x, lane); }
inline int shuffle(int x, int lane) { return __shfl_sync(kFullWarp, x, lane); }
inline u32 shuffle(u32 x, int lane) { return __shfl_sync(kFullWarp, x, lane); }
// The value `delta` lanes below; own value where there is none.
inline float shuffle_up(float x, int delta) { return __shfl_up_sync(kFullWarp, x, delta); }
inline int shuffle_up(int x, int delta) { return __shfl_up_sync(kFullWarp, x, delta); }
inline u32 ballot(bool predicate) { return __ballot_sync(kFullWarp, predicate); }
inline bool any(bool predicate) { return __any_sync(kFullWarp, predicate); }
inline bool all(bool predicate) { return __all_sync(kFullWarp, predicate); }

// Over groups of `width` neighbouring lanes (a power of two).
template <int width = 32>
inline float sum(float x) {
#pragma unroll
  for (int m = width / 2; m > 0; m /= 2) x += shuffle_xor(x, m);
  return x;
}
template <int width = 32>
inline float max(float x) {
#pragma unroll
  for (int m = width / 2; m > 0; m /= 2) x = max_f32(x, shuffle_xor(x, m));
  return x;
}
template <int width = 32>
inline int sum(int x) {
#pragma unroll
  for (int m = width / 2; m > 0; m /= 2) x += shuffle_xor(x, m);
  return x;
}

}  // namespace quire::tile::warp
