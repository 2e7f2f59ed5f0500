// A GPU thread as the emulator sees it, and queues of them.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "emulator/copy_queue.h"
#include "emulator/fiber.h"
#include "emulator/hooks.h"
#include "emulator/product_queue.h"

namespace quire::emulator {

constexpr int kWarpLanes = 32;
constexpr int kWarpgroupThreads = 128;
constexpr int kMaxThreads = 1024;  // of a block
constexpr int kMaxClusterBlocks = 8;
constexpr unsigned kMaxLanes = kMaxThreads * kMaxClusterBlocks;

// What a thread waits for.
struct Wait {
  Collective what{};
  Site site{};
  const void* object = nullptr;  // the barrier, where there are many
  u32 number = 0;                // its parity or id
};

struct Lane {
  Position position{};
  int index = 0;  // among the threads of the cluster
  std::unique_ptr<Fiber> fiber;
  CopyQueue copies;
  StoreQueue stores;
  ProductQueue products;
  u64 proxy_fence = 0;  // when the latest was
  bool finished = false;
  bool waits = false;
  Wait wait{};
  Lane* next = nullptr;  // in a WaitList
};

// Threads that can go on, longest waiting first. Never allocates, since it belongs to no thread:
// the thread sanitizer would see memory handed from one to the other.
class LaneQueue {
 public:
  void clear() { size_ = 0; }
  bool empty() const { return size_ == 0; }
  void push(Lane* lane) { lanes_[(first_ + size_++) % kMaxLanes] = lane; }
  Lane* take() {
    if (size_ == 0) return nullptr;
    --size_;
    return lanes_[first_++ % kMaxLanes];
  }

 private:
  std::array<Lane*, kMaxLanes> lanes_{};
  unsigned first_ = 0, size_ = 0;
};

// Threads that wait for one barrier.
class WaitList {
 public:
  void clear() { first_ = last_ = nullptr; }
  void push(Lane* lane) {
    lane->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = lane;
    last_ = lane;
  }
  Lane* take() {
    Lane* lane = first_;
    if (lane != nullptr) first_ = lane->next;
    return lane;
  }

 private:
  Lane* first_ = nullptr;
  Lane* last_ = nullptr;
};

// "sync_block at norm.cuh:12"
std::string describe(Collective what, Site site);
std::string describe(const Wait& wait);
// "0-3, 7"
std::string ranges(const std::vector<int>& sorted);

}  // namespace quire::emulator
