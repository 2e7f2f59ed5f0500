#include "cli/replay_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "quire/error.h"

namespace quire::cli {

std::int64_t LoopStep::rows() const {
  return std::accumulate(qo_lens.begin(), qo_lens.end(), std::int64_t{0});
}

ServingLoop::ServingLoop(const std::vector<TraceRequest>& requests, int block_tokens, KvPool& pool,
                         LoopLimits limits)
    : requests_(requests), pool_(pool), limits_(limits) {
  const std::int64_t room = std::int64_t{pool.stats().num_pages} * pool.page_size();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    tokens_.push_back(tokens_of(requests[i], static_cast<int>(i), block_tokens));
    waiting_.push_back(static_cast<int>(i));
    if (static_cast<std::int64_t>(tokens_[i].size()) <= room) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("replay: --pool-tokens: got {}, expected at least {}: request {}", room,
                            tokens_[i].size(), i));
  }
}

std::int32_t ServingLoop::prompt_of(const Running& r) const {
  return requests_[static_cast<std::size_t>(r.request)].prompt;
}

// The last token of the answer is never written: nobody attends to it.
std::int32_t ServingLoop::length_of(const Running& r) const {
  return static_cast<std::int32_t>(tokens_[static_cast<std::size_t>(r.request)].size()) - 1;
}

// The request that came last gives its pages back and waits again.
void ServingLoop::preempt_last() {
  pool_.free(running_.back().id);
  waiting_.push_front(running_.back().request);
  running_.pop_back();
  ++counts_.preempted;
}

// Makes room for `count` more tokens of a running request; false: there is none. may_preempt: at
// the cost of requests after it, which are not in the step yet, and at last of its own.
bool ServingLoop::append(std::size_t index, std::int32_t count, bool may_preempt) {
  while (index < running_.size()) {
    Running& r = running_[index];
    const std::span<const std::int32_t> tokens = tokens_[static_cast<std::size_t>(r.request)];
    try {
      pool_.append(
          r.id, tokens.subspan(static_cast<std::size_t>(r.done), static_cast<std::size_t>(count)));
      r.done += count;
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory) throw;
    }
    if (!may_preempt) return false;
    preempt_last();
  }
  return false;
}

void ServingLoop::add(LoopStep& step, const Running& r, std::int32_t rows) const {
  step.ids.push_back(r.id);
  step.qo_lens.push_back(rows);
  step.kv_lens.push_back(r.done);
}

bool ServingLoop::admit() {
  if (waiting_.empty() || static_cast<int>(running_.size()) >= limits_.max_batch) return false;
  const int request = waiting_.front();
  const auto& tokens = tokens_[static_cast<std::size_t>(request)];
  const auto prompt = static_cast<std::size_t>(requests_[static_cast<std::size_t>(request)].prompt);
  const SequenceId id = pool_.allocate(std::span(tokens).first(prompt));
  running_.push_back({request, id, pool_.num_cached_tokens(id)});
  waiting_.pop_front();
  return true;
}

std::optional<LoopStep> ServingLoop::begin_step() {
  LoopStep step;
  std::int32_t budget = limits_.max_step_tokens;
  // Decodes first: they must not wait for prompts.
  for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
    if (running_[i].done < prompt_of(running_[i])) continue;
    if (!append(i, 1, true)) break;
    add(step, running_[i], 1);
    --budget;
    ++counts_.answer_tokens;
  }
  for (std::size_t i = 0; budget > 0; ++i) {
    if (i == running_.size() && !admit()) break;
    const std::int32_t left = prompt_of(running_[i]) - running_[i].done;
    if (left <= 0) continue;
    const std::int32_t chunk = std::min(left, budget);
    if (!append(i, chunk, step.ids.empty())) break;
    add(step, running_[i], chunk);
    budget -= chunk;
    counts_.prompt_tokens += chunk;
  }
  if (!step.ids.empty()) return step;
  if (waiting_.empty() && running_.empty()) return std::nullopt;
  throw Error(ErrorCode::out_of_memory,
              "replay: --pool-tokens: got too few for the next request, expected more");
}

void ServingLoop::end_step() {
  for (const Running& r : running_) {
    if (r.done == prompt_of(r)) pool_.cache_prefix(r.id);
  }
  std::erase_if(running_, [&](const Running& r) {
    if (r.done < length_of(r)) return false;
    pool_.free(r.id);
    ++counts_.completed;
    return true;
  });
}

}  // namespace quire::cli
