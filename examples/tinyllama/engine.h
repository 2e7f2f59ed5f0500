// Serves requests with a model: schedule, forward, sample, until all are done.
#pragma once

#include <cstdint>
#include <functional>

#include "llama_model.h"
#include "sampler.h"
#include "scheduler.h"

namespace tinyllama {

struct EngineStats {
  std::int64_t num_steps = 0;
  std::int64_t prompt_tokens = 0;  // computed
  std::int64_t generated_tokens = 0;
  double prefill_seconds = 0;  // a step's time is split by how many tokens of it were prompt
  double decode_seconds = 0;
  int peak_pages_in_use = 0;
  std::int64_t peak_pages_saved = 0;
  std::int64_t prefix_hit_tokens = 0;  // prompt tokens that were in the cache already
};

class Engine {
 public:
  explicit Engine(LlamaModel& model, bool share_prefixes = true);

  std::size_t add(Request request) { return scheduler_.add(std::move(request)); }

  using OnToken = std::function<void(std::size_t request, std::int32_t token, bool is_last)>;
  // Computes one step; false when there was nothing to do.
  bool step(const OnToken& on_token);

  const EngineStats& stats() const { return stats_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  std::vector<std::int32_t> compute(const Step& step);
  void count(const Step& step, double seconds);

  LlamaModel& model_;
  Scheduler scheduler_;
  Sampler sampler_;
  EngineStats stats_;
};

}  // namespace tinyllama
