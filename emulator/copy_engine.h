// Copies of boxes of tensors to shared memory that are under way. They land as late as possible:
// when no thread can go on, or when somebody asks in vain for the barrier they report to.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "emulator/hooks.h"
#include "emulator/tensor_map.h"

namespace quire::emulator {

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

  // The oldest copy lands; false when there is none.
  bool land();
  // The oldest that reports to this barrier, if there is one.
  void land_for(const MbarrierState& full);
  // Empty, or what is under way.
  std::string describe_pending() const;

 private:
  static constexpr std::size_t kMaxPending = 4096;
  struct Copy {
    TensorMapInfo map;
    u8* dst = nullptr;
    int coordinates[TensorMapInfo::kMaxRank] = {};
    MbarrierState* full = nullptr;
    Site site{};
    bool landed = false;
  };
  Copy& at(std::size_t i) { return pending_[(first_ + i) % kMaxPending]; }
  static const u8* source(const Copy& copy, int row, int& skipped_bytes, int& bytes);
  void execute(Copy& copy);

  // A ring. Allocated once: threads of the block write it in turns.
  std::vector<Copy> pending_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace quire::emulator
