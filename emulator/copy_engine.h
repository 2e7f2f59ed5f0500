// What will come to shared memory and is still under way: boxes of tensors, and arrivals that stand
// behind a thread's own copies. It comes as late as possible: when no thread can go on, or when
// somebody asks in vain for the barrier it reports to.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "emulator/box_place.h"

namespace quire::emulator {

struct Lane;
struct MbarrierState;

class CopyEngine {
 public:
  CopyEngine() : pending_(kMaxPending) {}
  void clear() { first_ = count_ = 0; }

  // A copy by the current thread is prepared by start() and under way after queue().
  Box start(void* dst, const u64* map, const int* coordinates, int rank, MbarrierState& full,
            Site site);
  const u8* row_source(int row, int& bytes) const;
  void queue();
  // One arrival, when all copies of the thread so far have landed.
  void arrive_after_copies(Lane& lane, MbarrierState& barrier, Site site);
  // The thread has carried out copies itself: arrivals that stand behind them come after that.
  void copies_taken(const Lane& lane);

  // The oldest lands; false when there is none.
  bool land();
  // The oldest that reports to this barrier, if there is one.
  void land_for(const MbarrierState& barrier);
  // Empty, or what is under way.
  std::string describe_pending() const;

 private:
  static constexpr std::size_t kMaxPending = 4096;
  struct Pending {
    BoxPlace box;
    Lane* lane = nullptr;        // whose copies; null: the box
    std::size_t num_copies = 0;  // of the lane, since the block began
    MbarrierState* barrier = nullptr;
    Site site{};
    bool landed = false;
  };
  Pending& at(std::size_t i) { return pending_[(first_ + i) % kMaxPending]; }
  Pending& next_free();
  void drop_landed();
  void execute(Pending& pending);
  static void copy_box(const BoxPlace& box);

  // A ring. Allocated once: threads of the block write it in turns.
  std::vector<Pending> pending_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace quire::emulator
