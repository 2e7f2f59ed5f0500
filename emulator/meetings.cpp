// Where the threads of a block, warpgroup or warp meet: all of them, in the same place.
#include <fmt/format.h>

#include <string_view>

#include "emulator/block.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {

void Meeting::prepare(const char* name, int threads) {
  group = name;
  num_expected = threads;
  waiting.clear();
  waiting.reserve(static_cast<std::size_t>(threads));
}

bool Block::enter(Meeting& meeting, Collective what, Site site) {
  if (meeting.waiting.empty()) {
    meeting.what = what;
    meeting.site = site;
  } else if (meeting.what != what || meeting.site.line != site.line ||
             std::string_view(meeting.site.file) != site.file) {
    fault(fmt::format("divergence: calls {} while thread {} of its {} waits in {}",
                      describe(what, site), meeting.waiting.front()->position.thread, meeting.group,
                      describe(meeting.what, meeting.site)));
  }
  if (static_cast<int>(meeting.waiting.size()) + 1 == meeting.num_expected) return true;
  current_->wait = {what, site};
  current_->waits = true;
  meeting.waiting.push_back(current_);
  suspend();
  return false;
}

void Block::complete(Meeting& meeting) {
  for (Lane* lane : meeting.waiting) make_ready(lane);
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

Warp& Block::full_warp(Collective what, Site site) {
  Warp& self = warp();
  if (self.meeting.num_expected != kWarpLanes) {
    fault(fmt::format("calls {} in a warp of only {} threads", describe(what, site),
                      self.meeting.num_expected));
  }
  return self;
}

const Deposit* Block::exchange(Collective what, const Deposit& mine, Site site, Finish finish) {
  Warp& self = full_warp(what, site);
  auto& deposits = self.deposits[self.meeting.round % 2];
  deposits[static_cast<std::size_t>(current_->position.thread) % kWarpLanes] = mine;
  if (enter(self.meeting, what, site)) {
    if (finish != nullptr) finish(deposits);
    complete(self.meeting);
  }
  return deposits.data();
}

void Block::meet_warp(Collective what, Site site) {
  Warp& self = full_warp(what, site);
  if (enter(self.meeting, what, site)) complete(self.meeting);
}

Warpgroup& Block::warpgroup(Collective what, Site site) {
  const auto index = static_cast<std::size_t>(current_->position.thread / kWarpgroupThreads);
  if (index >= static_cast<std::size_t>(launch_->threads / kWarpgroupThreads)) {
    fault(fmt::format("calls {} in a warpgroup of only {} threads", describe(what, site),
                      launch_->threads % kWarpgroupThreads));
  }
  return warpgroups_[index];
}

void Block::meet_warpgroup(Collective what, Site site, FinishGroup finish, void* argument) {
  Warpgroup& group = warpgroup(what, site);
  if (!enter(group.meeting, what, site)) return;
  const int thread = current_->position.thread;
  if (finish != nullptr) finish(group, thread - thread % kWarpgroupThreads, argument);
  complete(group.meeting);
}

}  // namespace quire::emulator
