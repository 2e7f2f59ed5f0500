// One thread block at a time, or the blocks of one cluster together: a fiber for each of the
// threads, the places where they wait for each other, and what is wrong with a kernel whose threads
// do not all come.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "emulator/copy_engine.h"
#include "emulator/fiber.h"
#include "emulator/hooks.h"
#include "emulator/lane.h"
#include "emulator/mbarriers.h"
#include "emulator/named_barriers.h"
#include "emulator/proxy_marks.h"
#include "emulator/shared_memory.h"
#include "emulator/warpgroup_products.h"

namespace quire::emulator {

struct GridLaunch {
  std::string name;
  void (*entry)(const void* params) = nullptr;
  const void* params = nullptr;
  int grid_x = 1, grid_y = 1;
  int threads = 32;
  std::size_t smem_bytes = 0;
  int arch = 80;  // of the device
  int cluster_blocks = 1;
  int lanes() const { return threads * cluster_blocks; }
};

// Runs every cluster of blocks, one after another. Returns what the kernel did wrong; empty:
// nothing.
std::string run_grid(const GridLaunch& launch);

// Where the threads of a cluster, block, warpgroup or warp wait for each other, again and again.
struct Meeting {
  const char* group = "";  // "block", …
  int num_expected = 0;
  Collective what{};
  Site site{};  // of the thread that came first
  unsigned round = 0;
  std::vector<Lane*> waiting;  // never grows past what prepare() reserves
  // What barriers order; two, since a fast thread is a round ahead of a slow one.
  std::array<char, 2> memory_order{};

  void prepare(const char* name, int threads);
};

struct Warp {
  Meeting meeting;
  std::array<std::array<Deposit, kWarpLanes>, 2> deposits{};  // by the meeting's round
};

struct Warpgroup {
  Meeting meeting;
  std::array<std::array<char, 4>, 2> read_order{};  // by the meeting's round and the warp
  WarpgroupProducts products;
};

class Block {
 public:
  static Block& instance();

  // Runs the blocks from block_x on that are a cluster. Returns the first fault, or nothing.
  std::string run(const GridLaunch& launch, int block_x, int block_y,
                  const std::vector<SharedMemory>& shared_memory);
  // Orders what the host did before against the threads' work, and that against what it does next.
  void begin_grid();
  void end_grid();

  Lane& current() { return *current_; }
  Lane& lane(int thread) { return *lanes_[static_cast<std::size_t>(thread)]; }
  int cluster_rank() const { return current_->index / launch_->threads; }
  int cluster_blocks() const { return launch_->cluster_blocks; }
  u8* shared_memory() const { return shared_memory_of(cluster_rank()); }
  u8* shared_memory_of(int rank) const { return shared_memory_[static_cast<std::size_t>(rank)]; }
  std::size_t smem_bytes() const { return launch_->smem_bytes; }
  std::size_t offset_of(const void* shared) const {
    return static_cast<std::size_t>(static_cast<const u8*>(shared) - shared_memory());
  }
  int num_threads() const { return launch_->threads; }
  // Fails the kernel unless it runs on a device of this compute capability (90) or a later one.
  void require_arch(int arch, const char* what, Site site);

  void sync_block(Site site);
  void sync_cluster(Site site);
  void sync_warp(Site site);
  // `finish` works on all deposits when the last lane has come.
  using Finish = void (*)(std::array<Deposit, kWarpLanes>& deposits);
  const Deposit* exchange(Collective what, const Deposit& mine, Site site, Finish finish = nullptr);
  // All lanes of the warp come; orders no memory.
  void meet_warp(Collective what, Site site);
  // All threads of the warpgroup come; `finish` runs when the last one has. Orders no memory.
  using FinishGroup = void (*)(Warpgroup& group, int first_thread, void* argument);
  void meet_warpgroup(Collective what, Site site, FinishGroup finish, void* argument);
  Warpgroup& warpgroup(Collective what, Site site);

  Mbarriers& mbarriers() { return mbarriers_; }
  NamedBarriers& named_barriers() { return named_barriers_; }
  CopyEngine& copy_engine() { return copy_engine_; }
  ProxyMarks& proxy_marks() { return proxy_marks_; }
  // May the asynchronous proxy read there, for a thread whose latest fence was at `fence`?
  bool is_fenced(std::size_t offset, u64 fence) const {
    const ProxyMarks::Mark mark = proxy_marks_.at(offset);
    return mark.thread < 0 || fence > mark.time ||
           lanes_[static_cast<std::size_t>(mark.thread)]->proxy_fence > mark.time;
  }

  // The current thread waits in `list` until somebody wakes it.
  void wait_in(WaitList& list, const Wait& wait);
  void wake(WaitList& list);
  // Lets all others run that can.
  void yield(const Wait& wait);
  // Something has changed for those who poll.
  void note_progress() { idle_rounds_ = 0; }

  // Ends the kernel; every thread unwinds.
  [[noreturn]] void fault(const std::string& text);

 private:
  Block() = default;
  static void run_lane(void* lane);
  Warp& warp() { return warps_[static_cast<std::size_t>(current_->index) / kWarpLanes]; }
  Warp& full_warp(Collective what, Site site);
  void prepare(const GridLaunch& launch, int block_x, int block_y);
  void prepare_meetings(const GridLaunch& launch);
  // Last to come: returns true at once. Others wait for it, then return false.
  bool enter(Meeting& meeting, Collective what, Site site);
  void complete(Meeting& meeting);
  // A barrier that orders memory.
  void meet_in_order(Meeting& meeting, Collective what, Site site);
  void make_ready(Lane* lane);
  Lane* next_lane();
  void suspend();
  void check_ended(const Lane& lane);
  void record_fault(const std::string& text);
  std::string describe_deadlock() const;

  const GridLaunch* launch_ = nullptr;
  std::array<u8*, kMaxClusterBlocks> shared_memory_{};
  std::vector<std::unique_ptr<Lane>> lanes_;  // grows to the largest cluster seen
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  std::array<Meeting, kMaxClusterBlocks> block_meetings_;
  Meeting cluster_meeting_;
  Mbarriers mbarriers_;
  NamedBarriers named_barriers_;
  CopyEngine copy_engine_;
  ProxyMarks proxy_marks_;
  LaneQueue ready_, polling_;
  int idle_rounds_ = 0;  // of polling, since anything has changed
  Lane* current_ = nullptr;
  std::optional<Fiber> host_;
  int num_finished_ = 0;
  std::string fault_;
  bool aborting_ = false;
  char grid_begin_ = 0, grid_end_ = 0;  // memory order between host and threads
};

}  // namespace quire::emulator
