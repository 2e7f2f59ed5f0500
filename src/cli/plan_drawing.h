// A work list as a picture: which worker is busy with what, and when.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/attention.h"

namespace quire::cli {

// One work item on its worker's line. Times are in steps of tile_kv tokens.
struct PlanBar {
  int worker;
  double begin, end;
  kernels::WorkItem item;
};

struct PlanDrawing {
  std::vector<PlanBar> bars;  // by worker, then time
  int num_workers = 0;
  int num_requests = 0;
  int num_split_tiles = 0;
  double longest = 0, mean = 0, shortest = 0;  // loads of workers

  double balance() const { return longest > 0 ? mean / longest : 1; }
};

PlanDrawing draw_plan(const plan::AttentionPlan& plan, const plan::AttentionProblem& problem,
                      const plan::AttentionTile& tile);

// One line of text a worker, at most `max_lines` of them, `width` characters wide.
std::string plan_as_text(const PlanDrawing& drawing, int width, int max_lines);

std::string plan_as_svg(const PlanDrawing& drawing, const std::string& title);

}  // namespace quire::cli
