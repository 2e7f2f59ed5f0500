#include "cli/plan_drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>

namespace quire::cli {
namespace {

constexpr std::string_view kRequestLetters =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

char letter(int request) {
  return kRequestLetters[static_cast<std::size_t>(request) % kRequestLetters.size()];
}

// In every column the request that the worker is busy with at that time; '.' when it is idle.
std::string worker_line(const PlanDrawing& drawing, std::size_t& bar, int worker, int width) {
  std::string line;
  for (int column = 0; column < width; ++column) {
    const double time = (column + 0.5) * drawing.longest / width;
    const auto on_worker = [&] {
      return bar < drawing.bars.size() && drawing.bars[bar].worker == worker;
    };
    while (on_worker() && drawing.bars[bar].end <= time) ++bar;
    line += on_worker() ? letter(drawing.bars[bar].item.request) : '.';
  }
  while (bar < drawing.bars.size() && drawing.bars[bar].worker == worker) ++bar;
  return line;
}

}  // namespace

PlanDrawing draw_plan(const plan::AttentionPlan& plan, const plan::AttentionProblem& problem,
                      const plan::AttentionTile& tile) {
  PlanDrawing drawing{.num_workers = tile.num_workers,
                      .num_requests = static_cast<int>(problem.qo_lens.size())};
  drawing.shortest = std::numeric_limits<double>::infinity();
  for (int w = 0; w < tile.num_workers; ++w) {
    double time = 0;
    const auto worker = static_cast<std::size_t>(w);
    for (int i = plan.worker_indptr[worker]; i < plan.worker_indptr[worker + 1]; ++i) {
      const kernels::WorkItem& item = plan.items[static_cast<std::size_t>(i)];
      const double end = time + plan::item_cost(item, problem, tile);
      drawing.bars.push_back({w, time, end, item});
      time = end;
    }
    drawing.longest = std::max(drawing.longest, time);
    drawing.shortest = std::min(drawing.shortest, time);
    drawing.mean += time / tile.num_workers;
  }
  drawing.num_split_tiles = static_cast<int>(
      std::ranges::count_if(plan.merges, [](const auto& merge) { return merge.num_parts > 1; }));
  return drawing;
}

std::string plan_as_text(const PlanDrawing& drawing, int width, int max_lines) {
  std::string text;
  std::size_t bar = 0;
  const int lines = std::min(drawing.num_workers, max_lines);
  for (int w = 0; w < lines; ++w) {
    text += fmt::format("{:5} |{}|\n", w, worker_line(drawing, bar, w, width));
  }
  if (lines < drawing.num_workers) {
    text += fmt::format("  ... {} more workers (--lines)\n", drawing.num_workers - lines);
  }
  return text;
}

}  // namespace quire::cli
