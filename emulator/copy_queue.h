// The asynchronous copies of one thread: chunks to shared memory by cp_async, boxes from it by the
// copy engine. Oldest first.
#pragma once

#include <cstddef>
#include <vector>

#include "emulator/box_place.h"
#include "emulator/hooks.h"

namespace quire::emulator {

class CopyQueue {
 public:
  void clear();
  void push(const PendingCopy& copy) { copies_.push_back(copy); }
  void commit() { group_ends_.push_back(num_pushed()); }
  bool take(int pending_groups, PendingCopy& copy);
  // How many there have been so far, and the next of the first `end` of them, in a group or not;
  // false when those have landed.
  std::size_t num_pushed() const { return num_dropped_ + copies_.size(); }
  bool take_of_first(std::size_t end, PendingCopy& copy);

 private:
  // Numbers are since the block began; the first `num_dropped_` are no longer kept.
  std::vector<PendingCopy> copies_;
  std::vector<std::size_t> group_ends_;  // of committed groups
  std::size_t num_dropped_ = 0;
  std::size_t num_taken_ = 0;   // copies
  std::size_t num_landed_ = 0;  // groups
  void drop_taken();
};

class StoreQueue {
 public:
  void clear();
  bool empty() const { return boxes_.empty(); }
  const BoxPlace& front() const { return boxes_.front(); }
  void push(const BoxPlace& box) { boxes_.push_back(box); }
  void commit() { num_committed_ = boxes_.size(); }
  // The next 16 bytes or fewer of committed boxes; false when all have been taken.
  bool take(StorePiece& piece);

 private:
  std::vector<BoxPlace> boxes_;
  std::size_t num_committed_ = 0;
  std::size_t box_ = 0;  // where take() is
  int row_ = 0, byte_ = 0;
};

}  // namespace quire::emulator
