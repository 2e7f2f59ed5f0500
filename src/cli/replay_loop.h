// A serving loop without a model: admission, chunks of prefill beside decodes, completion.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "cli/replay_trace.h"
#include "quire/kv_pool.h"

namespace quire::cli {

struct LoopLimits {
  int max_batch = 64;
  int max_step_tokens = 512;  // rows of q of one step
};

// One step: which sequences take part and with how many rows of q.
struct LoopStep {
  std::vector<SequenceId> ids;
  std::vector<std::int32_t> qo_lens, kv_lens;
  std::int64_t rows() const;
};

struct LoopCounts {
  std::int64_t completed = 0, preempted = 0, prompt_tokens = 0, answer_tokens = 0;
};

// Requests are taken in the order of the trace, as soon as there is room: what is measured is work,
// not waiting. Where pages run out, the request that came last gives its pages back and starts
// anew.
class ServingLoop {
 public:
  // Throws invalid_argument for a request that the pool is too small for.
  ServingLoop(const std::vector<TraceRequest>& requests, int block_tokens, KvPool& pool,
              LoopLimits limits);

  // The next step, its tokens appended to the pool; nothing when all requests are completed.
  std::optional<LoopStep> begin_step();
  // The step has run: prompts that are complete can be shared, requests that are complete leave.
  void end_step();

  const LoopCounts& counts() const { return counts_; }

 private:
  struct Running {
    int request;
    SequenceId id;
    std::int32_t done = 0;  // tokens in the pool
  };
  std::int32_t prompt_of(const Running& r) const;
  std::int32_t length_of(const Running& r) const;
  bool append(std::size_t index, std::int32_t count, bool may_preempt);
  void preempt_last();
  void add(LoopStep& step, const Running& r, std::int32_t rows) const;
  bool admit();

  const std::vector<TraceRequest>& requests_;
  std::vector<std::vector<std::int32_t>> tokens_;
  KvPool& pool_;
  LoopLimits limits_;
  std::deque<int> waiting_;
  std::vector<Running> running_;
  LoopCounts counts_;
};

}  // namespace quire::cli
