// Boxes of tensors that will come to shared memory and are still under way, and chunks whose
// threads let a barrier hear of them. They come as late as possible: when no thread can go on, or
// when somebody asks in vain for the barrier they report to.
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
  // All chunks of the thread so far.
  void queue_chunks(Lane& lane, MbarrierState& full, Site site);

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
    Lane* lane = nullptr;        // whose chunks come, not a box
    std::size_t num_chunks = 0;  // that it has asked for since the block began
    MbarrierState* barrier = nullptr;
    Site site{};
    bool landed = false;
  };
  Pending& at(std::size_t i) { return pending_[(first_ + i) % kMaxPending]; }
  Pending& next_free();
  void drop_landed();
  void execute(Pending& pending);
  static void copy_box(const BoxPlace& box);
  static void copy_chunks(Lane& lane, std::size_t num_chunks);

  // A ring. Allocated once: threads of the block write it in turns.
  std::vector<Pending> pending_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace quire::emulator
