#include "emulator/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "emulator/sanitizers.h"
#include "emulator/shared_memory.h"

namespace quire::emulator {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;

struct LaneEnds {};  // thrown to unwind the fiber of a thread that cannot go on

const char* name(Collective what) {
  switch (what) {
    case Collective::sync_block:
      return "sync_block";
    case Collective::sync_warp:
      return "sync_warp";
    case Collective::shuffle:
      return "shuffle";
    case Collective::vote:
      return "ballot";
    case Collective::ldmatrix:
      return "ldmatrix";
    case Collective::mma:
      return "mma";
  }
  return "";
}

std::string describe(Collective what, Site site) {
  return fmt::format("{} at {}:{}", name(what), site.file, site.line);
}

// "0-3, 7"
std::string ranges(const std::vector<int>& sorted) {
  std::string text;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t last = i;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text +=
        last == i ? fmt::format("{}", sorted[i]) : fmt::format("{}-{}", sorted[i], sorted[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace

void CopyQueue::clear() {
  copies_.clear();
  group_ends_.clear();
  num_taken_ = num_landed_ = 0;
}

bool CopyQueue::take(int pending_groups, PendingCopy& copy) {
  while (group_ends_.size() - num_landed_ > static_cast<std::size_t>(pending_groups)) {
    if (num_taken_ < group_ends_[num_landed_]) {
      copy = copies_[num_taken_++];
      return true;
    }
    ++num_landed_;
  }
  if (num_taken_ == copies_.size()) clear();
  return false;
}

Block& Block::instance() {
  static auto& block = *new Block;  // its fibers outlive static destructors
  return block;
}

void Block::begin_grid() { host_.emplace(); }

void Block::end_grid() { acquire(&grid_end_); }

void Block::prepare(const GridLaunch& launch, int block_x, int block_y) {
  launch_ = &launch;
  const auto num_threads = static_cast<std::size_t>(launch.threads);
  while (lanes_.size() < num_threads) {
    lanes_.push_back(std::make_unique<Lane>());
    lanes_.back()->fiber =
        std::make_unique<Fiber>(kStackBytes, &Block::run_lane, lanes_.back().get());
  }
  const std::size_t num_warps = (num_threads + kWarpLanes - 1) / kWarpLanes;
  if (warps_.size() < num_warps) warps_.resize(num_warps);
  for (std::size_t w = 0; w < num_warps; ++w) {
    const auto lanes_left = static_cast<int>(num_threads - w * kWarpLanes);
    warps_[w].meeting.num_expected = std::min(lanes_left, kWarpLanes);
    warps_[w].meeting.waiting.clear();
    warps_[w].meeting.waiting.reserve(kWarpLanes);
  }
  block_meeting_.num_expected = launch.threads;
  block_meeting_.waiting.clear();
  block_meeting_.waiting.reserve(kMaxThreads);
  ready_.clear();
  for (std::size_t i = 0; i < num_threads; ++i) {
    Lane& lane = *lanes_[i];
    lane.position = {static_cast<int>(i), launch.threads, block_x, block_y, launch.grid_x};
    lane.copies.clear();
    lane.finished = false;
    lane.waits_in = nullptr;
    ready_.push(&lane);
  }
  num_finished_ = 0;
  aborting_ = false;
  fault_.clear();
}

std::string Block::run(const GridLaunch& launch, int block_x, int block_y, u8* shared_memory) {
  prepare(launch, block_x, block_y);
  shared_memory_ = shared_memory;
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
      if (!block.aborting_) block.launch_->entry(block.launch_->params);
    } catch (const LaneEnds&) {
    }
    release(&block.grid_end_);
    lane.finished = true;
    ++block.num_finished_;
    Lane* next = block.ready_.take();
    if (next == nullptr && block.num_finished_ < block.launch_->threads) {
      block.record_fault(block.describe_deadlock());
      release(&block.grid_end_);  // the text as well
      next = block.ready_.take();
    }
    block.current_ = next;
    Fiber::switch_to(*lane.fiber, next != nullptr ? *next->fiber : *block.host_);
  }
}

void Block::suspend() {
  Lane& self = *current_;
  Lane* next = ready_.take();
  if (next == nullptr) fault(describe_deadlock());
  current_ = next;
  Fiber::switch_to(*self.fiber, *next->fiber);
  if (aborting_) throw LaneEnds{};
}

bool Block::enter(Meeting& meeting, Collective what, Site site) {
  if (meeting.waiting.empty()) {
    meeting.what = what;
    meeting.site = site;
  } else if (meeting.what != what || meeting.site.line != site.line ||
             std::string_view(meeting.site.file) != site.file) {
    fault(fmt::format("divergence: calls {} while thread {} of its {} waits in {}",
                      describe(what, site), meeting.waiting.front()->position.thread,
                      &meeting == &block_meeting_ ? "block" : "warp",
                      describe(meeting.what, meeting.site)));
  }
  if (static_cast<int>(meeting.waiting.size()) + 1 == meeting.num_expected) return true;
  current_->waits_in = &meeting;
  meeting.waiting.push_back(current_);
  suspend();
  return false;
}

void Block::complete(Meeting& meeting) {
  for (Lane* lane : meeting.waiting) {
    lane->waits_in = nullptr;
    ready_.push(lane);
  }
  meeting.waiting.clear();
  ++meeting.round;
}

void Block::sync_block(Site site) {
  void* order = &block_meeting_.memory_order[block_meeting_.round % 2];
  release(order);
  if (enter(block_meeting_, Collective::sync_block, site)) complete(block_meeting_);
  acquire(order);
}

void Block::sync_warp(Site site) {
  Meeting& meeting = warp().meeting;
  void* order = &meeting.memory_order[meeting.round % 2];
  release(order);
  if (enter(meeting, Collective::sync_warp, site)) complete(meeting);
  acquire(order);
}

const Deposit* Block::exchange(Collective what, const Deposit& mine, Site site, Finish finish) {
  Warp& self = warp();
  if (self.meeting.num_expected != kWarpLanes) {
    fault(fmt::format("calls {} in a warp of only {} threads", describe(what, site),
                      self.meeting.num_expected));
  }
  auto& deposits = self.deposits[self.meeting.round % 2];
  deposits[static_cast<std::size_t>(current_->position.thread) % kWarpLanes] = mine;
  if (enter(self.meeting, what, site)) {
    if (finish != nullptr) finish(deposits);
    complete(self.meeting);
  }
  return deposits.data();
}

void Block::record_fault(const std::string& text) {
  if (fault_.empty()) fault_ = text;
  aborting_ = true;
  ready_.clear();
  for (int i = 0; i < launch_->threads; ++i) {
    Lane* lane = lanes_[static_cast<std::size_t>(i)].get();
    if (!lane->finished && lane != current_) ready_.push(lane);
  }
}

void Block::fault(const std::string& text) {
  record_fault(fmt::format("thread {}: {}", current_->position.thread, text));
  throw LaneEnds{};
}

std::string Block::describe_deadlock() const {
  std::string text = "deadlock:";
  std::vector<int> finished;
  const auto append = [&](const Meeting& meeting) {
    if (meeting.waiting.empty()) return;
    std::vector<int> threads;
    for (const Lane* lane : meeting.waiting) threads.push_back(lane->position.thread);
    std::sort(threads.begin(), threads.end());
    text += fmt::format(" threads {} wait in {};", ranges(threads),
                        describe(meeting.what, meeting.site));
  };
  append(block_meeting_);
  for (const Warp& warp : warps_) append(warp.meeting);
  for (int i = 0; i < launch_->threads; ++i) {
    if (lanes_[static_cast<std::size_t>(i)]->finished) finished.push_back(i);
  }
  return text + (finished.empty() ? " nobody has returned"
                                  : fmt::format(" threads {} have returned", ranges(finished)));
}

std::string run_grid(const GridLaunch& launch) {
  Block& block = Block::instance();
  block.begin_grid();
  std::vector<SharedMemory> used;
  std::string fault;
  for (int y = 0; y < launch.grid_y && fault.empty(); ++y) {
    for (int x = 0; x < launch.grid_x && fault.empty(); ++x) {
      // The thread sanitizer must not see two blocks share memory, nor memory freed by the host
      // before it has heard of the threads' end.
      if (used.empty() || kThreadSanitizer) {
        used.emplace_back(launch.smem_bytes);
      } else {
        used.back().poison();
      }
      fault = block.run(launch, x, y, used.back().data());
      if (fault.empty() && !used.back().guard_intact()) {
        fault = fmt::format("wrote behind its {} bytes of shared memory", launch.smem_bytes);
      }
      if (!fault.empty()) fault = fmt::format("{}: block ({}, {}): {}", launch.name, x, y, fault);
    }
  }
  block.end_grid();
  return fault;
}

}  // namespace quire::emulator
