#include "emulator/block.h"

#include <fmt/format.h>

#include <algorithm>

#include "emulator/sanitizers.h"
#include "emulator/shared_memory.h"

namespace quire::emulator {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;

constexpr int kMaxIdleRounds = 10000;

struct LaneEnds {};  // thrown to unwind the fiber of a thread that cannot go on

}  // namespace

Block& Block::instance() {
  static auto& block = *new Block;  // its fibers outlive static destructors
  return block;
}

void Block::begin_grid() { host_.emplace(); }

void Block::end_grid() { acquire(&grid_end_); }

void Block::prepare(const GridLaunch& launch, int block_x, int block_y) {
  launch_ = &launch;
  const auto num_threads = static_cast<std::size_t>(launch.lanes());
  while (lanes_.size() < num_threads) {
    lanes_.push_back(std::make_unique<Lane>());
    lanes_.back()->fiber =
        std::make_unique<Fiber>(kStackBytes, &Block::run_lane, lanes_.back().get());
  }
  prepare_meetings(launch);
  mbarriers_.clear();
  named_barriers_.clear();
  copy_engine_.clear();
  proxy_marks_.clear(launch.smem_bytes);
  polling_.clear();
  idle_rounds_ = 0;
  ready_.clear();
  for (std::size_t i = 0; i < num_threads; ++i) {
    Lane& lane = *lanes_[i];
    lane.index = static_cast<int>(i);
    lane.position = {lane.index % launch.threads,
                     launch.threads,
                     block_x + lane.index / launch.threads,
                     block_y,
                     launch.grid_x,
                     launch.grid_y};
    lane.copies.clear();
    lane.finished = false;
    lane.waits = false;
    ready_.push(&lane);
  }
  num_finished_ = 0;
  aborting_ = false;
  fault_.clear();
}

void Block::prepare_meetings(const GridLaunch& launch) {
  const int num_threads = launch.lanes();  // full warps, when it is more than one block
  const auto num_warps = static_cast<std::size_t>((num_threads + kWarpLanes - 1) / kWarpLanes);
  if (warps_.size() < num_warps) warps_.resize(num_warps);
  for (std::size_t w = 0; w < num_warps; ++w) {
    const int lanes_left = num_threads - static_cast<int>(w) * kWarpLanes;
    warps_[w].meeting.prepare("warp", std::min(lanes_left, kWarpLanes));
  }
  const auto num_groups = static_cast<std::size_t>(num_threads / kWarpgroupThreads);
  if (warpgroups_.size() < num_groups) warpgroups_.resize(num_groups);
  for (std::size_t g = 0; g < num_groups; ++g) {
    warpgroups_[g].meeting.prepare("warpgroup", kWarpgroupThreads);
    warpgroups_[g].products.clear();
  }
  for (int b = 0; b < launch.cluster_blocks; ++b) {
    block_meetings_[static_cast<std::size_t>(b)].prepare("block", launch.threads);
  }
  cluster_meeting_.prepare("cluster", num_threads);
}

std::string Block::run(const GridLaunch& launch, int block_x, int block_y,
                       const std::vector<SharedMemory>& shared_memory) {
  prepare(launch, block_x, block_y);
  const auto blocks = static_cast<std::size_t>(launch.cluster_blocks);
  for (std::size_t b = 0; b < blocks; ++b) {
    shared_memory_[b] = shared_memory[shared_memory.size() - blocks + b].data();
  }
  release(&grid_begin_);
  current_ = ready_.take();
  Fiber::switch_to(*host_, *current_->fiber);
  if (!fault_.empty()) acquire(&grid_end_);  // its text comes from a thread
  return fault_;
}

void Block::run_lane(void* argument) {
  Lane& lane = *static_cast<Lane*>(argument);
  Block& block = instance();
  for (;;) {  // once for every block that has this thread
    try {
      acquire(&block.grid_begin_);
      lane.proxy_fence = 0;
      lane.products.clear();  // here, not in prepare(): its memory is this thread's own
      lane.stores.clear();
      if (!block.aborting_) {
        block.launch_->entry(block.launch_->params);
        block.check_ended(lane);
      }
    } catch (const LaneEnds&) {
    }
    release(&block.grid_end_);
    lane.finished = true;
    ++block.num_finished_;
    const bool all_finished = block.num_finished_ == block.launch_->lanes();
    Lane* next = nullptr;
    try {
      if (!all_finished) next = block.next_lane();
    } catch (const LaneEnds&) {  // a copy that landed was one too many for its barrier
      next = block.ready_.take();
    }
    if (next == nullptr && !all_finished) {
      block.record_fault(block.describe_deadlock());
      release(&block.grid_end_);  // the text as well
      next = block.ready_.take();
    }
    block.current_ = next;
    Fiber::switch_to(*lane.fiber, next != nullptr ? *next->fiber : *block.host_);
  }
}

// A thread has returned: what it may not leave behind.
void Block::check_ended(const Lane& lane) {
  if (!lane.products.empty()) {
    const Site site = lane.products.entries().front().site;
    fault(
        fmt::format("returned and had not waited for the product at {}:{}", site.file, site.line));
  }
  if (!lane.stores.empty()) {
    const Site site = lane.stores.front().site;
    fault(fmt::format("returned and had not waited for tma::store at {}:{} to read shared memory",
                      site.file, site.line));
  }
  if (num_finished_ + 1 < launch_->lanes()) return;
  if (const std::string text = copy_engine_.describe_pending(); !text.empty()) {
    fault("the block ends, and " + text);
  }
}

// The next thread that can go on. When there is none, a copy lands; then those who poll go on.
Lane* Block::next_lane() {
  for (;;) {
    if (Lane* lane = ready_.take()) return lane;
    if (aborting_) return nullptr;
    if (copy_engine_.land()) continue;
    if (polling_.empty() || ++idle_rounds_ > kMaxIdleRounds) return nullptr;
    while (Lane* lane = polling_.take()) ready_.push(lane);
  }
}

void Block::suspend() {
  Lane& self = *current_;
  Lane* next = next_lane();
  if (next == nullptr) fault(describe_deadlock());
  if (next != &self) {
    current_ = next;
    Fiber::switch_to(*self.fiber, *next->fiber);
  }
  if (aborting_) throw LaneEnds{};
}

void Block::wait_in(WaitList& list, const Wait& wait) {
  current_->wait = wait;
  current_->waits = true;
  list.push(current_);
  suspend();
}

void Block::wake(WaitList& list) {
  while (Lane* lane = list.take()) make_ready(lane);
}

void Block::yield(const Wait& wait) {
  Lane& self = *current_;
  self.wait = wait;
  self.waits = true;
  polling_.push(&self);
  suspend();
  self.waits = false;
}

void Block::make_ready(Lane* lane) {
  lane->waits = false;
  ready_.push(lane);
  note_progress();
}

void Block::record_fault(const std::string& text) {
  if (fault_.empty()) fault_ = text;
  aborting_ = true;
  ready_.clear();
  polling_.clear();
  for (int i = 0; i < launch_->lanes(); ++i) {
    Lane* lane = lanes_[static_cast<std::size_t>(i)].get();
    if (!lane->finished && lane != current_) ready_.push(lane);
  }
}

void Block::require_arch(int arch, const char* what, Site site) {
  if (launch_->arch >= arch) return;
  fault(fmt::format("calls {} at {}:{}, which needs compute capability {}.{}; the device has {}.{}",
                    what, site.file, site.line, arch / 10, arch % 10, launch_->arch / 10,
                    launch_->arch % 10));
}

void Block::fault(const std::string& text) {
  record_fault(fmt::format("thread {}: {}", current_->position.thread, text));
  throw LaneEnds{};
}

std::string run_grid(const GridLaunch& launch) {
  Block& block = Block::instance();
  block.begin_grid();
  std::vector<SharedMemory> used;
  std::string fault;
  const auto cluster = static_cast<std::size_t>(launch.cluster_blocks);
  for (int y = 0; y < launch.grid_y && fault.empty(); ++y) {
    for (int x = 0; x < launch.grid_x && fault.empty(); x += launch.cluster_blocks) {
      // The thread sanitizer must not see two blocks share memory, nor memory freed by the host
      // before it has heard of the threads' end.
      if (used.empty() || kThreadSanitizer) {
        for (std::size_t b = 0; b < cluster; ++b) used.emplace_back(launch.smem_bytes);
      } else {
        for (SharedMemory& memory : used) memory.poison();
      }
      fault = block.run(launch, x, y, used);
      for (std::size_t b = used.size() - cluster; b < used.size() && fault.empty(); ++b) {
        if (used[b].guard_intact()) continue;
        fault = fmt::format("wrote behind its {} bytes of shared memory", launch.smem_bytes);
      }
      if (!fault.empty()) fault = fmt::format("{}: block ({}, {}): {}", launch.name, x, y, fault);
    }
  }
  block.end_grid();
  return fault;
}

}  // namespace quire::emulator
