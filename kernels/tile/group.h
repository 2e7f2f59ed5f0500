// Sums and maxima over neighbouring threads: part of a warp, a warp, or a whole block of several.
// GPU and emulator.
#pragma once

#include "tile/warp.h"

namespace quire::tile {

// `threads` is a power of two; every thread of the block calls the functions. More than a warp is
// the whole block, and takes 64 floats at the start of shared memory.
template <int threads>
class Group {
 public:
  float sum(float x) {
    x = warp::sum<min_of(threads, 32)>(x);
    if constexpr (kWarps > 1) x = warp::sum<kWarps>(exchange(x));
    return x;
  }
  float max(float x) {
    x = warp::max<min_of(threads, 32)>(x);
    if constexpr (kWarps > 1) x = warp::max<kWarps>(exchange(x));
    return x;
  }

  // The sum of the one and the maximum of the other, with one barrier.
  void sum_and_max(float& summed, float& largest) {
    summed = warp::sum<min_of(threads, 32)>(summed);
    largest = warp::max<min_of(threads, 32)>(largest);
    if constexpr (kWarps > 1) {
      float* sums = reinterpret_cast<float*>(shared_memory());
      float* maxima = sums + 32;
      if (lane_index() == 0) {
        sums[warp_index()] = summed;
        maxima[warp_index()] = largest;
      }
      sync_block();
      summed = warp::sum<kWarps>(sums[lane_index() % kWarps]);
      largest = warp::max<kWarps>(maxima[lane_index() % kWarps]);
    }
  }

 private:
  static constexpr int kWarps = threads / 32;

  // One warp's result in each of kWarps neighbouring lanes. Two turns use different memory, so that
  // one barrier is enough.
  float exchange(float x) {
    float* of_warps = reinterpret_cast<float*>(shared_memory()) + turn_ * 32;
    turn_ ^= 1;
    if (lane_index() == 0) of_warps[warp_index()] = x;
    sync_block();
    return of_warps[lane_index() % kWarps];
  }

  int turn_ = 0;
};

}  // namespace quire::tile
