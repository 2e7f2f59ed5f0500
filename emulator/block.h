// One thread block at a time: a fiber for each of its threads, the places where they wait for each
// other, and what is wrong with a kernel whose threads do not all come.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "emulator/fiber.h"
#include "emulator/hooks.h"

namespace quire::emulator {

struct GridLaunch {
  std::string name;
  void (*entry)(const void* params) = nullptr;
  const void* params = nullptr;
  int grid_x = 1, grid_y = 1;
  int threads = 32;
  std::size_t smem_bytes = 0;
};

// Runs every block, one after another. Returns what the kernel did wrong; empty: nothing.
std::string run_grid(const GridLaunch& launch);

constexpr int kWarpLanes = 32;
constexpr int kMaxThreads = 1024;

// The asynchronous copies of one thread, oldest first.
class CopyQueue {
 public:
  void clear();
  void push(const PendingCopy& copy) { copies_.push_back(copy); }
  void commit() { group_ends_.push_back(copies_.size()); }
  bool take(int pending_groups, PendingCopy& copy);

 private:
  std::vector<PendingCopy> copies_;
  std::vector<std::size_t> group_ends_;  // of committed groups, as indices into copies_
  std::size_t num_taken_ = 0;            // copies
  std::size_t num_landed_ = 0;           // groups
};

struct Meeting;
struct Lane;

// Threads that can go on, longest waiting first. Never allocates, since it belongs to no thread:
// the thread sanitizer would see memory handed from one to the other.
class ReadyQueue {
 public:
  void clear() { size_ = 0; }
  void push(Lane* lane) { lanes_[(first_ + size_++) % kMaxThreads] = lane; }
  Lane* take() {
    if (size_ == 0) return nullptr;
    --size_;
    return lanes_[first_++ % kMaxThreads];
  }

 private:
  std::array<Lane*, kMaxThreads> lanes_{};
  unsigned first_ = 0, size_ = 0;
};

// A GPU thread.
struct Lane {
  Position position{};
  std::unique_ptr<Fiber> fiber;
  CopyQueue copies;
  bool finished = false;
  const Meeting* waits_in = nullptr;
};

// Where the threads of a block or of a warp wait for each other, again and again.
struct Meeting {
  int num_expected = 0;
  Collective what{};
  Site site{};  // of the thread that came first
  unsigned round = 0;
  std::vector<Lane*> waiting;  // never grows past what prepare() reserves
  // What barriers order; two, since a fast thread is a round ahead of a slow one.
  std::array<char, 2> memory_order{};
};

struct Warp {
  Meeting meeting;
  std::array<std::array<Deposit, kWarpLanes>, 2> deposits{};  // by the meeting's round
};

class Block {
 public:
  static Block& instance();

  // Returns the first fault, or nothing.
  std::string run(const GridLaunch& launch, int block_x, int block_y, u8* shared_memory);
  // Orders what the host did before against the threads' work, and that against what it does next.
  void begin_grid();
  void end_grid();

  Lane& current() { return *current_; }
  u8* shared_memory() { return shared_memory_; }
  std::size_t smem_bytes() const { return launch_->smem_bytes; }

  void sync_block(Site site);
  void sync_warp(Site site);
  // `finish` works on all deposits when the last lane has come.
  using Finish = void (*)(std::array<Deposit, kWarpLanes>& deposits);
  const Deposit* exchange(Collective what, const Deposit& mine, Site site, Finish finish = nullptr);

  // Ends the kernel; every thread unwinds.
  [[noreturn]] void fault(const std::string& text);

 private:
  Block() = default;
  static void run_lane(void* lane);
  Warp& warp() { return warps_[static_cast<std::size_t>(current_->position.thread) / kWarpLanes]; }
  void prepare(const GridLaunch& launch, int block_x, int block_y);
  // Last to come: returns true at once. Others wait for it, then return false.
  bool enter(Meeting& meeting, Collective what, Site site);
  void complete(Meeting& meeting);
  void suspend();
  void record_fault(const std::string& text);
  std::string describe_deadlock() const;

  const GridLaunch* launch_ = nullptr;
  u8* shared_memory_ = nullptr;
  std::vector<std::unique_ptr<Lane>> lanes_;  // grows to the largest block seen
  std::vector<Warp> warps_;
  Meeting block_meeting_;
  ReadyQueue ready_;
  Lane* current_ = nullptr;
  std::optional<Fiber> host_;
  int num_finished_ = 0;
  std::string fault_;
  bool aborting_ = false;
  char grid_begin_ = 0, grid_end_ = 0;  // memory order between host and threads
};

}  // namespace quire::emulator
