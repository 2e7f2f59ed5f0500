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

void Block::meet_in_order(Meeting& meeting, Collective what, Site site) {
  void* order = &meeting.memory_order[meeting.round % 2];
  release(order);
  if (enter(meeting, what, site)) complete(meeting);
  acquire(order);
}

void Block::sync_block(Site site) {
  meet_in_order(block_meetings_[static_cast<std::size_t>(cluster_rank())], Collective::sync_block,
                site);
}

void Block::sync_cluster(Site site) {
  meet_in_order(cluster_meeting_, Collective::sync_cluster, site);
}

void Block::sync_warp(Site site) { meet_in_order(warp().meeting, Collective::sync_warp, site); }

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
  deposits[static_cast<std::size_t>(current_->index) % kWarpLanes] = mine;
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
  const auto index = static_cast<std::size_t>(current_->index / kWarpgroupThreads);
  if (index >= static_cast<std::size_t>(launch_->lanes() / kWarpgroupThreads)) {
    fault(fmt::format("calls {} in a warpgroup of only {} threads", describe(what, site),
                      launch_->lanes() % kWarpgroupThreads));
  }
  return warpgroups_[index];
}

void Block::meet_warpgroup(Collective what, Site site, FinishGroup finish, void* argument) {
  Warpgroup& group = warpgroup(what, site);
  if (!enter(group.meeting, what, site)) return;
  const int thread = current_->index;
  if (finish != nullptr) finish(group, thread - thread % kWarpgroupThreads, argument);
  complete(group.meeting);
}

}  // namespace quire::emulator
