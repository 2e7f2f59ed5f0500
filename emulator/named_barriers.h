// The barriers 1 to 15 of a block, each among as many threads as its callers say.
#pragma once

#include <array>
#include <string>

#include "emulator/lane.h"

namespace quire::emulator {

class NamedBarriers {
 public:
  void clear();
  void come(Collective what, int id, int threads, Site site);
  std::string describe(u32 id) const;

 private:
  static constexpr std::size_t kCount = 16;
  struct Barrier {
    int num_expected = 0, num_come = 0;
    Collective what{};
    Site site{};  // of the thread that came first
    unsigned round = 0;
    WaitList waiting;
    std::array<char, 2> memory_order{};  // by round
  };
  std::array<Barrier, kCount> barriers_{};
};

}  // namespace quire::emulator
