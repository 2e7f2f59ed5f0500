#include "emulator/mbarriers.h"

#include <fmt/format.h>

#include "emulator/block.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {
namespace {

constexpr u64 kName = 0x6d626172u;  // upper half of a word; the lower is an index
constexpr int kMaxArrivals = (1 << 20) - 1, kMaxBytes = (1 << 20) - 1;

std::string at(Site site) { return fmt::format(" at {}:{}: ", site.file, site.line); }

}  // namespace

u64 Mbarriers::init(const void* word, int arrivals, Site site) {
  Block& block = Block::instance();
  for (std::size_t i = 0; i < count_; ++i) {
    if (states_[i].word != word) continue;
    block.fault(fmt::format("Mbarrier::init{}the barrier at offset {} has been initialised before",
                            at(site), block.offset_of(word)));
  }
  if (arrivals < 1 || arrivals > kMaxArrivals) {
    block.fault(fmt::format("Mbarrier::init{}{} arrivals", at(site), arrivals));
  }
  if (count_ == kMax) block.fault("more barriers in shared memory than the emulator has room for");
  MbarrierState& state = states_[count_];
  state.word = word;
  state.num_arrivals = state.num_missing = arrivals;
  state.bytes = 0;
  state.phase = 0;
  state.init_thread = block.current().position.thread;
  state.fenced = false;
  state.waiting.clear();
  return kName << 32 | count_++;
}

void Mbarriers::fence_init(int thread) {
  for (std::size_t i = 0; i < count_; ++i) {
    if (states_[i].init_thread == thread) states_[i].fenced = true;
  }
}

MbarrierState& Mbarriers::find(const u64* word, u64 value, const char* what, Site site) {
  const u64 index = value & 0xffffffffu;
  if (value >> 32 == kName && index < count_ && states_[index].word == word) return states_[index];
  Block& block = Block::instance();
  block.fault(fmt::format("{}{}the barrier at offset {} was not initialised, or was written over",
                          what, at(site), block.offset_of(word)));
}

void Mbarriers::complete_if_all_came(MbarrierState& state) {
  if (state.num_missing != 0 || state.bytes != 0) return;
  state.num_missing = state.num_arrivals;
  ++state.phase;
  Block::instance().wake(state.waiting);
}

void Mbarriers::count_arrival(MbarrierState& state, Site site) {
  Block& block = Block::instance();
  if (state.num_missing == 0) {
    block.fault(fmt::format("Mbarrier::arrive{}one arrival too many in a phase of {}", at(site),
                            describe(&state)));
  }
  --state.num_missing;
  complete_if_all_came(state);
  block.note_progress();
}

void Mbarriers::arrive(MbarrierState& state, int bytes, Site site) {
  if (bytes < 0 || state.bytes + bytes > kMaxBytes) {
    Block::instance().fault(fmt::format("Mbarrier::arrive_expect{}{} bytes", at(site), bytes));
  }
  release(&state.memory_order[state.phase % 2]);
  state.bytes += bytes;
  count_arrival(state, site);
}

void Mbarriers::bytes_came(MbarrierState& state, int bytes) {
  state.bytes -= bytes;
  complete_if_all_came(state);
  Block::instance().note_progress();
}

bool Mbarriers::test(MbarrierState& state, u32 parity, Site site) {
  Block& block = Block::instance();
  if (!has_completed(state, parity)) {
    block.copy_engine().land_for(state);
    block.yield({Collective::mbarrier_test, site, &state, parity});
  }
  if (!has_completed(state, parity)) return false;
  acquire(&state.memory_order[parity % 2]);
  return true;
}

void Mbarriers::wait(MbarrierState& state, u32 parity, Site site) {
  // Whoever waits is woken by the end of the phase that runs; the hardware may miss it when the
  // next one ends too before the thread has looked, but then that barrier is used wrongly.
  if (!has_completed(state, parity)) {
    Block::instance().wait_in(state.waiting, {Collective::mbarrier_wait, site, &state, parity});
  }
  acquire(&state.memory_order[parity % 2]);
}

std::string Mbarriers::describe(const void* object) const {
  const auto& state = *static_cast<const MbarrierState*>(object);
  std::string text =
      fmt::format("the barrier at offset {} (phase {}, parity {}: {} of {} arrivals",
                  Block::instance().offset_of(state.word), state.phase, state.phase % 2,
                  state.num_arrivals - state.num_missing, state.num_arrivals);
  if (state.bytes != 0) text += fmt::format(", {} bytes have not come", state.bytes);
  return text + ")";
}

}  // namespace quire::emulator
