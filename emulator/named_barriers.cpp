#include "emulator/named_barriers.h"

#include <fmt/format.h>

#include "emulator/block.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {

void NamedBarriers::clear() {
  for (Barrier& barrier : barriers_) {
    barrier.num_come = 0;
    barrier.waiting.clear();
  }
}

void NamedBarriers::come(Collective what, int id, int threads, Site site) {
  Block& block = Block::instance();
  if (id < 1 || id >= static_cast<int>(kCount)) {
    block.fault(
        fmt::format("calls {} with id {}, expected 1 to 15", emulator::describe(what, site), id));
  }
  block.meet_warp(what, site);
  Barrier& barrier = barriers_[static_cast<std::size_t>(id)];
  if (barrier.num_come == 0) {
    barrier.num_expected = threads;
    barrier.what = what;
    barrier.site = site;
  } else if (barrier.num_expected != threads) {
    block.fault(fmt::format("calls {} for {} threads of barrier {}, but {} was for {}",
                            emulator::describe(what, site), threads, id,
                            emulator::describe(barrier.what, barrier.site), barrier.num_expected));
  }
  void* order = &barrier.memory_order[barrier.round % 2];
  release(order);
  const bool waits = what == Collective::named_barrier_sync;
  if (++barrier.num_come == threads) {
    barrier.num_come = 0;
    ++barrier.round;
    block.wake(barrier.waiting);
  } else if (waits) {
    block.wait_in(barrier.waiting, {what, site, nullptr, static_cast<u32>(id)});
  }
  if (waits) acquire(order);
}

std::string NamedBarriers::describe(u32 id) const {
  const Barrier& barrier = barriers_[id];
  return fmt::format("barrier {} ({} of {} threads have come)", id, barrier.num_come,
                     barrier.num_expected);
}

}  // namespace quire::emulator
