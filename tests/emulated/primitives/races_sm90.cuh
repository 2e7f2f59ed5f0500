// Kernels of faults_sm90.cuh's kind whose threads race; the thread sanitizer must notice.
#pragma once

#include "faults_sm90.cuh"

namespace quire::kernels {

// Reads the neighbour's number in the other half of the block; behind mode 0: nothing, 1: an
// mbarrier, 2: a named barrier, 3: an mbarrier that the writers arrive at before they write.
template <PrimitiveConfig c>
void others_number(const PrimitiveParams& p) {
  init_barriers(64);
  const int thread = tile::thread_index();
  if (thread < 64) {
    if constexpr (c.mode == 3) barrier(0).arrive();
    numbers()[thread] = static_cast<float>(thread);
    if constexpr (c.mode == 1) barrier(0).arrive();
    if constexpr (c.mode == 2) tile::named_barrier_arrive<128>(1);
  } else {
    if constexpr (c.mode == 1 || c.mode == 3) barrier(0).wait(0);
    if constexpr (c.mode == 2) tile::named_barrier_sync<128>(1);
    static_cast<float*>(p.out)[thread] = numbers()[thread - 64];
  }
}

// A second box lands where others read the first; mode 0: nobody asked them, 1: they have arrived
// at the barrier that the copying thread waits for.
template <PrimitiveConfig c>
void box_over_readers(const PrimitiveParams& p) {
  const int thread = tile::thread_index();
  if (thread == 0) {
    barrier(0).init(1);
    barrier(1).init(128);
    tile::fence_mbarrier_init();
  }
  tile::sync_block();
  for (u32 round = 0; round < 2; ++round) {
    if (thread == 0) {
      if (c.mode == 1) barrier(1).wait(round ^ 1);
      barrier(0).arrive_expect(kBoxBytes);
      tile::tma::load_4d(tile::shared_memory(), p.map, barrier(0), 0, 0, 0, 0);
    }
    barrier(0).wait(round);
    static_cast<float*>(p.out)[thread] = numbers()[4 * thread];
    barrier(1).arrive();
  }
}

// Part of row 17 of A, which the second warp multiplies.
inline float& second_warps_operand() { return numbers()[17 * 32]; }

// A product of what one thread wrote; mode 0: no barrier between, 1: one.
template <PrimitiveConfig c>
void product_of_others_numbers(const PrimitiveParams& p) {
  fill_with_ones();
  if (tile::thread_index() == 100) second_warps_operand() = 0;
  tile::fence_async_proxy();
  if constexpr (c.mode == 1) tile::sync_block();
  float d[8];
  finished_product_of_ones(d);
  static_cast<float*>(p.out)[tile::thread_index()] = d[0];
}

// The operand is written over by another warp once a warp has waited for its product; mode 0: all
// lanes but the last have nothing to do with it, 1: the writer is behind a barrier.
template <PrimitiveConfig c>
void operand_released(const PrimitiveParams& p) {
  init_barriers(4);
  fill_with_ones();
  float d[8];
  finished_product_of_ones(d);
  if (tile::lane_index() == 3) barrier(0).arrive();
  if (tile::thread_index() == 100) {
    if constexpr (c.mode == 1) barrier(0).wait(0);
    second_warps_operand() = 0;
  }
  static_cast<float*>(p.out)[tile::thread_index()] = d[0];
}

// Barriers are used without a block barrier after their init.
template <PrimitiveConfig c>
void barrier_before_init(const PrimitiveParams&) {
  if (tile::thread_index() == 0) barrier(0).init(128);
  tile::sync_warp();
  barrier(0).arrive();
}

}  // namespace quire::kernels
