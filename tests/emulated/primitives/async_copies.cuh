// Grid: 1. Block: any. Smem: 16 bytes * n a thread. Output: out u8 [n, 16 * threads].
#pragma once

#include "primitive_types.h"
#include "tile/cp_async.h"
#include "tile/uncached.h"

namespace quire::kernels {

// out = a [n, 16 * threads] through shared memory, n groups in flight, each waited for when it is
// the oldest. Chunks whose place in b (u8 [n, threads]) is 0 are not valid: they become zeros.
template <PrimitiveConfig c>
void copy_in_groups(const PrimitiveParams& p) {
  u8* smem = tile::shared_memory();
  const int threads = tile::num_threads(), thread = tile::thread_index();
  const u8* a = static_cast<const u8*>(p.a);
  const u8* valid = static_cast<const u8*>(p.b);
  tile::prefetch_to_l2(a + 16 * thread);
  for (int group = 0; group < c.n; ++group) {
    const int chunk = group * threads + thread;
    tile::cp_async::copy16(smem + 16 * chunk, a + 16 * chunk, valid[chunk] != 0);
    tile::cp_async::commit();
  }
  for (int group = 0; group < c.n; ++group) {
    // Commits of nothing keep the number of groups behind this one constant.
    tile::cp_async::wait<c.n - 1>();
    tile::cp_async::commit();
    tile::sync_block();
    const int neighbour = group * threads + (thread + 1) % threads;
    for (int i = 0; i < 16; ++i) {
      static_cast<u8*>(p.out)[16 * neighbour + i] = smem[16 * neighbour + i];
    }
  }
}

// out f32 [3, 4 * threads] = a: four at once, one by one, and as integers.
template <PrimitiveConfig c>
void load_past_l1(const PrimitiveParams& p) {
  const auto* a = static_cast<const float*>(p.a);
  auto* out = static_cast<float*>(p.out);
  const int first = 4 * tile::thread_index(), count = 4 * tile::num_threads();
  float four[4];
  tile::load_uncached(four, a + first);
  for (int i = first; i < first + 4; ++i) {
    out[i] = four[i - first];
    out[count + i] = tile::load_uncached(a + i);
    reinterpret_cast<int*>(out)[2 * count + i] =
        tile::load_uncached(reinterpret_cast<const int*>(a) + i);
  }
}

}  // namespace quire::kernels
