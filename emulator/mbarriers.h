// The barriers in shared memory of one block. What they hold is here; the word in shared memory
// only says which of them it is, so that a word never set, or written over, is noticed.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "emulator/lane.h"

namespace quire::emulator {

struct MbarrierState {
  const void* word = nullptr;
  int num_arrivals = 0;  // a phase
  int num_missing = 0;   // in this phase
  long long bytes = 0;   // announced and not come, in this phase
  u32 phase = 0;
  int init_thread = 0;
  bool fenced = false;  // does the copy engine see it
  WaitList waiting;
  std::array<char, 2> memory_order{};  // by parity of the phase
};

class Mbarriers {
 public:
  static constexpr std::size_t kMax = 512;  // a block

  Mbarriers() : states_(kMax) {}
  void clear() { count_ = 0; }

  u64 init(const void* word, int arrivals, Site site);
  void fence_init(int thread);
  // Faults, named after `what`, when the value is not of a barrier at this place.
  MbarrierState& find(const u64* word, u64 value, const char* what, Site site);
  static bool has_completed(const MbarrierState& state, u32 parity) {
    return state.phase % 2 != parity % 2;
  }
  void arrive(MbarrierState& state, int bytes, Site site);
  void bytes_came(MbarrierState& state, int bytes);
  // A thread arrives, whose memory is in order already.
  void count_arrival(MbarrierState& state, Site site);
  bool test(MbarrierState& state, u32 parity, Site site);
  void wait(MbarrierState& state, u32 parity, Site site);

  std::string describe(const void* state) const;

 private:
  void complete_if_all_came(MbarrierState& state);

  std::vector<MbarrierState> states_;
  std::size_t count_ = 0;
};

}  // namespace quire::emulator
