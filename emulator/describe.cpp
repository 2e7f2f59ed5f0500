// The words in which faults are reported.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "emulator/block.h"

namespace quire::emulator {
namespace {

const char* name(Collective what) {
  switch (what) {
    case Collective::sync_block:
      return "sync_block";
    case Collective::sync_cluster:
      return "sync_cluster";
    case Collective::sync_warp:
      return "sync_warp";
    case Collective::shuffle:
      return "shuffle";
    case Collective::vote:
      return "ballot";
    case Collective::ldmatrix:
      return "ldmatrix";
    case Collective::movmatrix:
      return "movmatrix";
    case Collective::stmatrix:
      return "stmatrix";
    case Collective::mma:
      return "mma";
    case Collective::named_barrier_sync:
      return "named_barrier_sync";
    case Collective::named_barrier_arrive:
      return "named_barrier_arrive";
    case Collective::mbarrier_wait:
      return "Mbarrier::wait";
    case Collective::mbarrier_test:
      return "Mbarrier::test";
    case Collective::wgmma_wait:
      return "wgmma::wait";
    case Collective::release_registers:
      return "release_registers";
    case Collective::take_registers:
      return "take_registers";
  }
  return "";
}

bool same(const Wait& x, const Wait& y) {
  return x.what == y.what && x.object == y.object && x.number == y.number &&
         x.site.line == y.site.line && std::string_view(x.site.file) == y.site.file;
}

}  // namespace

std::string describe(Collective what, Site site) {
  return fmt::format("{} at {}:{}", name(what), site.file, site.line);
}

std::string describe(const Wait& wait) {
  const std::string text = describe(wait.what, wait.site);
  Block& block = Block::instance();
  switch (wait.what) {
    case Collective::mbarrier_wait:
    case Collective::mbarrier_test:
      return fmt::format("{} for parity {} of {}", text, wait.number,
                         block.mbarriers().describe(wait.object));
    case Collective::named_barrier_sync:
      return fmt::format("{} for {}", text, block.named_barriers().describe(wait.number));
    default:
      return text;
  }
}

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

std::string Block::describe_deadlock() const {
  std::vector<const Wait*> waits;  // each different one
  std::vector<int> finished;
  for (int i = 0; i < launch_->lanes(); ++i) {
    const Lane& lane = *lanes_[static_cast<std::size_t>(i)];
    if (lane.finished) finished.push_back(i);
    if (lane.finished || !lane.waits) continue;
    if (std::ranges::none_of(waits, [&](const Wait* w) { return same(*w, lane.wait); })) {
      waits.push_back(&lane.wait);
    }
  }
  std::string text = "deadlock:";
  for (const Wait* wait : waits) {
    std::vector<int> threads;
    for (int i = 0; i < launch_->lanes(); ++i) {
      const Lane& lane = *lanes_[static_cast<std::size_t>(i)];
      if (!lane.finished && lane.waits && same(lane.wait, *wait)) threads.push_back(i);
    }
    text += fmt::format(" threads {} {} in {};", ranges(threads),
                        wait->what == Collective::mbarrier_test ? "poll" : "wait", describe(*wait));
  }
  return text + (finished.empty() ? " nobody has returned"
                                  : fmt::format(" threads {} have returned", ranges(finished)));
}

}  // namespace quire::emulator
