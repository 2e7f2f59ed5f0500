// Kernels that use the sm_90 primitives wrongly on purpose; each says how. The emulator must
// notice. Grid: 1. Block: 128. Smem: 32 KB: operands, then barriers. Output: out f32 [128], where
// it says so. map: boxes of 16 rows of 64 elements, 2 KB. a: f32 [4 * 128].
#pragma once

#include "primitive_types.h"
#include "tile/tma.h"
#include "tile/wgmma.h"

namespace quire::kernels {

constexpr int kBoxBytes = 2048;

inline tile::Mbarrier& barrier(int index) {
  return reinterpret_cast<tile::Mbarrier*>(tile::shared_memory() + 31 * 1024)[index];
}
inline float* numbers() { return reinterpret_cast<float*>(tile::shared_memory()); }

// Barriers 0 and 1 for this many arrivals, ready for all.
inline void init_barriers(int arrivals) {
  if (tile::thread_index() == 0) {
    barrier(0).init(arrivals);
    barrier(1).init(arrivals);
    tile::fence_mbarrier_init();
  }
  tile::sync_block();
}

// ---------------------------------------------------------------- barriers

template <PrimitiveConfig c>
void barrier_without_init(const PrimitiveParams&) {
  barrier(0).wait(0);
}

template <PrimitiveConfig c>
void barrier_init_twice(const PrimitiveParams&) {
  init_barriers(1);
  init_barriers(1);
}

// The word is written over.
template <PrimitiveConfig c>
void barrier_overwritten(const PrimitiveParams&) {
  init_barriers(1);
  if (tile::thread_index() == 0) {
    barrier(1).word = 0;
    barrier(1).arrive();
  }
}

// Three arrivals in a phase of two that still waits for bytes.
template <PrimitiveConfig c>
void too_many_arrivals(const PrimitiveParams&) {
  init_barriers(2);
  if (tile::thread_index() == 0) barrier(0).arrive_expect(64);
  if (tile::thread_index() < 2) barrier(0).arrive();
}

// All wait, one of two has arrived. n 1: all ask again and again.
template <PrimitiveConfig c>
void missing_arrival(const PrimitiveParams&) {
  init_barriers(2);
  if (tile::thread_index() == 5) barrier(1).arrive();
  if constexpr (c.n == 1) {
    while (!barrier(1).test(0)) {
    }
  } else {
    barrier(1).wait(0);
  }
}

// Too few bytes come.
template <PrimitiveConfig c>
void missing_bytes(const PrimitiveParams& p) {
  init_barriers(1);
  if (tile::thread_index() == 0) {
    barrier(0).arrive_expect(kBoxBytes + 16);
    tile::tma::load_4d(tile::shared_memory(), p.map, barrier(0), 0, 0, 0, 0);
  }
  barrier(0).wait(0);
}

// Half of the threads of a barrier of 128 come.
template <PrimitiveConfig c>
void half_of_a_barrier(const PrimitiveParams&) {
  if (tile::warp_index() < 2) tile::named_barrier_sync<128>(3);
}

// One warp expects 64 threads, another 96.
template <PrimitiveConfig c>
void barrier_sizes(const PrimitiveParams&) {
  if (tile::warp_index() == 0) tile::named_barrier_sync<64>(3);
  if (tile::warp_index() == 1) tile::named_barrier_sync<96>(3);
}

template <PrimitiveConfig c>
void barrier_zero(const PrimitiveParams&) {
  tile::named_barrier_sync<128>(0);
}

// A lane of the warp goes another way.
template <PrimitiveConfig c>
void divergent_barrier(const PrimitiveParams&) {
  if (tile::thread_index() == 9) {
    tile::named_barrier_arrive<128>(2);
  } else {
    tile::named_barrier_sync<128>(2);
  }
}

// One warp does not come.
template <PrimitiveConfig c>
void registers_by_three_warps(const PrimitiveParams&) {
  if (tile::warp_index() != 2) tile::take_registers<232>();
}

// ---------------------------------------------------------------- copies of boxes

template <PrimitiveConfig c>
void copy_without_fence(const PrimitiveParams& p) {
  if (tile::thread_index() != 0) return;
  barrier(0).init(1);
  barrier(0).arrive_expect(kBoxBytes);
  tile::tma::load_4d(tile::shared_memory(), p.map, barrier(0), 0, 0, 0, 0);
}

// The destination is not at the beginning of the swizzle's pattern.
template <PrimitiveConfig c>
void misaligned_box(const PrimitiveParams& p) {
  init_barriers(1);
  if (tile::thread_index() != 0) return;
  tile::tma::load_4d(tile::shared_memory() + 128, p.map, barrier(0), 0, 0, 0, 0);
}

template <PrimitiveConfig c>
void copy_nobody_waits_for(const PrimitiveParams& p) {
  init_barriers(1);
  if (tile::thread_index() != 0) return;
  barrier(0).arrive_expect(kBoxBytes);
  tile::tma::load_4d(tile::shared_memory(), p.map, barrier(0), 0, 0, 0, 0);
}

// out: the first word of each thread's 16 bytes. n 0: read before the wait, n 1: after.
template <PrimitiveConfig c>
void early_read_of_box(const PrimitiveParams& p) {
  init_barriers(1);
  numbers()[4 * tile::thread_index()] = 7;  // stale
  tile::sync_block();
  if (tile::thread_index() == 0) {
    barrier(0).arrive_expect(kBoxBytes);
    tile::tma::load_4d(tile::shared_memory(), p.map, barrier(0), 0, 0, 0, 0);
  }
  if constexpr (c.n == 1) {
    barrier(0).wait(0);
  } else {
    tile::sync_block();  // no wait
  }
  static_cast<float*>(p.out)[tile::thread_index()] = numbers()[4 * tile::thread_index()];
  barrier(0).wait(0);
}

// A box to the tensor a. n 0: nobody waits until it is read; 1: shared memory is written over
// before the wait; 2: no fence_async_proxy() after stmatrix. out: what was stored.
template <PrimitiveConfig c>
void store_box(const PrimitiveParams& p) {
  const int thread = tile::thread_index();
  u8* row = tile::shared_memory() + 16 * thread;
  for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(row)[i] = 5;
  if constexpr (c.n == 2) tile::stmatrix_x4(row, 0, 0, 0, 0);
  if constexpr (c.n != 2) tile::fence_async_proxy();
  tile::sync_block();
  if (thread == 0) {
    tile::tma::store_4d(p.map, tile::shared_memory(), 0, 0, 0, 0);
    tile::tma::commit_stores();
    if constexpr (c.n == 1) numbers()[0] = 6;
    if constexpr (c.n != 0) tile::tma::wait_stores_read();
    static_cast<float*>(p.out)[0] = static_cast<const float*>(p.a)[0];
  }
}

// out: the first word of each thread's copy of 16 bytes, read by another. n 0: before the barrier
// has heard of all copies, 1: after.
template <PrimitiveConfig c>
void early_read_of_chunks(const PrimitiveParams& p) {
  init_barriers(128);
  const int thread = tile::thread_index(), other = 127 - thread;
  tile::cp_async::copy16(numbers() + 4 * thread, static_cast<const float*>(p.a) + 4 * thread, true);
  barrier(0).arrive_after_copies();
  if constexpr (c.n == 1) {
    barrier(0).wait(0);
  } else {
    tile::sync_block();  // no wait
  }
  static_cast<float*>(p.out)[other] = numbers()[4 * other];
  barrier(0).wait(0);
}

template <PrimitiveConfig c>
void chunks_nobody_waits_for(const PrimitiveParams& p) {
  init_barriers(1);
  if (tile::thread_index() != 0) return;
  tile::cp_async::copy16(numbers(), p.a, true);
  barrier(0).arrive_after_copies();
}

// ---------------------------------------------------------------- products

// Sixteen columns of ones times ones in the first panel: every element of the product is 16.
inline void fill_with_ones() {
  for (int i = tile::thread_index(); i < 64 * 64; i += 128) {
    reinterpret_cast<u16*>(tile::shared_memory())[i] = 0x3f80;
  }
  tile::fence_async_proxy();
  tile::sync_block();
}
inline void product_of_ones(float (&d)[8], bool accumulate, int offset = 0) {
  const u64 ones = tile::wgmma::descriptor(tile::shared_memory() + offset);
  tile::Wgmma<tile::bf16, 16>::ss(d, ones, ones, accumulate);
}
inline void finished_product_of_ones(float (&d)[8], int offset = 0) {
  tile::wgmma::fence();
  product_of_ones(d, false, offset);
  tile::wgmma::commit();
  tile::wgmma::wait<0>();
}

// out: an accumulator. n 0: read before the wait, 1: after a wait for too few groups, 2: correctly,
// 3: shared memory is written over before the wait.
template <PrimitiveConfig c>
void early_read_of_product(const PrimitiveParams& p) {
  fill_with_ones();
  float d[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  tile::wgmma::fence();
  product_of_ones(d, true);
  tile::wgmma::commit();
  if constexpr (c.n == 1) tile::wgmma::wait<1>();
  if constexpr (c.n == 2) tile::wgmma::wait<0>();
  if constexpr (c.n == 3) {
    tile::sync_block();
    if (tile::thread_index() < 8) numbers()[tile::thread_index() * 32] = 0;
    tile::sync_block();
    tile::wgmma::wait<0>();
  }
  static_cast<float*>(p.out)[tile::thread_index()] = d[0];
  tile::wgmma::wait<0>();
}

template <PrimitiveConfig c>
void product_without_fence(const PrimitiveParams&) {
  float d[8];
  product_of_ones(d, false);
}

template <PrimitiveConfig c>
void changed_accumulators(const PrimitiveParams& p) {
  fill_with_ones();
  float d[8];
  finished_product_of_ones(d);
  for (float& x : d) x *= 2;
  product_of_ones(d, true);
  static_cast<float*>(p.out)[0] = d[0];
}

template <PrimitiveConfig c>
void product_without_commit(const PrimitiveParams&) {
  fill_with_ones();
  float d[8];
  tile::wgmma::fence();
  product_of_ones(d, false);
  tile::wgmma::wait<0>();
}

template <PrimitiveConfig c>
void product_without_wait(const PrimitiveParams&) {
  fill_with_ones();
  float d[8];
  tile::wgmma::fence();
  product_of_ones(d, false);
  tile::wgmma::commit();
}

// Thread 77 multiplies something else.
template <PrimitiveConfig c>
void divergent_product(const PrimitiveParams&) {
  fill_with_ones();
  float d[8];
  finished_product_of_ones(d, tile::thread_index() == 77 ? 1024 : 0);
}

// The operand begins in the third row of the swizzle's pattern.
template <PrimitiveConfig c>
void misplaced_operand(const PrimitiveParams&) {
  fill_with_ones();
  float d[8];
  finished_product_of_ones(d, 256);
}

// The last rows of A lie behind shared memory.
template <PrimitiveConfig c>
void operand_outside(const PrimitiveParams&) {
  fill_with_ones();
  float d[8];
  finished_product_of_ones(d, 28 * 1024);
}

// cp_async writes an operand. n 0: no fence_async_proxy() after, 1: one; 2 and 3: the same where a
// barrier tells the others that the copies have landed, and they fence what they read.
template <PrimitiveConfig c>
void operand_without_proxy_fence(const PrimitiveParams& p) {
  fill_with_ones();
  tile::cp_async::copy16(numbers() + 4 * tile::thread_index(),
                         static_cast<const float*>(p.a) + 4 * tile::thread_index(), true);
  if constexpr (c.n < 2) {
    tile::cp_async::commit();
    tile::cp_async::wait<0>();
  } else {
    init_barriers(128);
    barrier(0).arrive_after_copies();
    barrier(0).wait(0);
  }
  if constexpr (c.n % 2 == 1) tile::fence_async_proxy();
  tile::sync_block();
  float d[8];
  finished_product_of_ones(d);
  static_cast<float*>(p.out)[tile::thread_index()] = d[0];
}

template <PrimitiveConfig c>
void negative_hold(const PrimitiveParams&) {
  tile::wgmma::hold(-1.f);
}

}  // namespace quire::kernels
