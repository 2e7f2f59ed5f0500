#include "scheduler.h"

#include <fmt/format.h>

#include <algorithm>

namespace tinyllama {

Scheduler::Scheduler(const ModelLimits& limits, int max_positions, bool share_prefixes)
    : limits_(limits),
      max_positions_(max_positions),
      share_prefixes_(share_prefixes),
      pool_(limits.num_pages, limits.page_size) {}

std::size_t Scheduler::add(Request request) {
  const auto length = static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens;
  const auto capacity = static_cast<std::int64_t>(limits_.num_pages) * limits_.page_size;
  const auto fail = [](const std::string& text) {
    throw quire::Error(quire::ErrorCode::invalid_argument, "request: " + text);
  };
  if (request.prompt.empty()) fail("prompt: got no tokens, expected at least one");
  if (request.max_new_tokens < 1) {
    fail(fmt::format("max_new_tokens: got {}, expected at least 1", request.max_new_tokens));
  }
  if (length > max_positions_) {
    fail(fmt::format("prompt: got {} tokens and {} to generate, expected at most {} positions",
                     request.prompt.size(), request.max_new_tokens, max_positions_));
  }
  if (length > capacity) {
    fail(fmt::format("prompt: got {} tokens and {} to generate, expected at most {} in the cache",
                     request.prompt.size(), request.max_new_tokens, capacity));
  }
  State state{.request = std::move(request)};
  state.tokens = state.request.prompt;
  states_.push_back(std::move(state));
  waiting_.push_back(states_.size() - 1);
  return states_.size() - 1;
}

int Scheduler::num_generated(std::size_t index) const {
  const State& state = states_.at(index);
  return static_cast<int>(state.tokens.size() - state.request.prompt.size());
}

Step Scheduler::next() {
  Step step;
  int budget = limits_.max_batch_tokens;
  // Generating requests first: a long prompt must not stall them. Copies, because preemption
  // changes running_.
  std::vector<std::size_t> generating, in_prompt;
  for (const std::size_t request : running_) {
    const State& state = states_[request];
    const bool one_token = state.num_computed + 1 == static_cast<int>(state.tokens.size());
    (one_token ? generating : in_prompt).push_back(request);
  }
  for (const std::size_t request : generating) take_chunk(step, request, budget);
  for (const std::size_t request : in_prompt) take_chunk(step, request, budget);
  admit(step, budget);
  step.batch = batch_of(step);
  return step;
}

void Scheduler::admit(Step& step, int& budget) {
  const std::vector<std::size_t> candidates(waiting_.begin(), waiting_.end());
  for (const std::size_t request : candidates) {
    const bool has_room = running_.size() < static_cast<std::size_t>(limits_.max_requests);
    if (budget == 0 || !has_room) return;
    State& state = states_[request];
    using Tokens = std::span<const std::int32_t>;
    state.sequence = pool_.allocate(share_prefixes_ ? Tokens(state.tokens) : Tokens());
    state.num_computed = pool_.num_cached_tokens(state.sequence);
    if (waits_for_prefix(state)) {
      leave(state, /*keep_prefix=*/true);
      continue;
    }
    prefix_hit_tokens_ += state.num_computed;
    running_.push_back(request);
    std::erase(waiting_, request);
    const std::size_t num_chunks = step.chunks.size();
    take_chunk(step, request, budget);
    if (step.chunks.size() == num_chunks) return;  // no pages left: it went back to the queue
  }
}

// Whether another request is about to compute pages that this one can share then.
bool Scheduler::waits_for_prefix(const State& state) const {
  if (!share_prefixes_) return false;
  return std::ranges::any_of(running_, [&](std::size_t request) {
    const State& other = states_[request];
    if (!other.is_in_prompt()) return false;
    const auto common = std::ranges::mismatch(state.tokens, other.request.prompt).in1;
    const auto length =
        std::min<std::ptrdiff_t>(common - state.tokens.begin(), std::ssize(state.tokens) - 1);
    return length / limits_.page_size * limits_.page_size > state.num_computed;
  });
}

void Scheduler::take_chunk(Step& step, std::size_t request, int& budget) {
  if (budget == 0 || !std::ranges::count(running_, request)) return;
  State& state = states_[request];
  const int begin = state.num_computed;
  const int end = std::min(static_cast<int>(state.tokens.size()), begin + budget);
  if (!make_room(step, request, end - begin)) return;
  const bool is_prompt = begin < static_cast<int>(state.request.prompt.size());
  step.chunks.push_back({request, begin, end, is_prompt});
  budget -= end - begin;
}

// Pages for the next tokens of a running request; if need be at the expense of those that joined
// later and, when there are none, by sending the request itself back to the queue. The first
// request of a step always gets its pages, so that all end.
bool Scheduler::make_room(const Step& step, std::size_t request, int num_tokens) {
  const State& state = states_[request];
  const auto tokens = std::span(state.tokens).subspan(state.num_computed, num_tokens);
  while (true) {
    try {
      pool_.append(state.sequence, tokens);  // no copies: sequences are never forked here
      return true;
    } catch (const quire::Error& error) {
      if (error.code() != quire::ErrorCode::out_of_memory) throw;
    }
    // Whoever joined later and is not in this step yet; pages of this step are being written.
    const auto victim = std::find_if(running_.rbegin(), running_.rend(), [&](std::size_t other) {
      return std::ranges::count(step.chunks, other, &Chunk::request) == 0;
    });
    const std::size_t chosen = *victim;
    preempt(chosen);
    if (chosen == request) return false;
  }
}

void Scheduler::preempt(std::size_t request) {
  std::erase(running_, request);
  waiting_.push_front(request);
  leave(states_[request], share_prefixes_);
}

void Scheduler::leave(State& state, bool keep_prefix) {
  pool_.free(state.sequence, keep_prefix);
  state.sequence = -1;
  state.num_computed = 0;
}

ModelBatch Scheduler::batch_of(Step& step) const {
  ModelBatch batch;
  std::vector<quire::SequenceId> sequences;
  for (const Chunk& chunk : step.chunks) {
    const State& state = states_[chunk.request];
    const auto index = static_cast<std::int32_t>(sequences.size());
    sequences.push_back(state.sequence);
    for (int position = chunk.begin; position < chunk.end; ++position) {
      batch.token_ids.push_back(state.tokens[position]);
      batch.positions.push_back(position);
      batch.batch_indices.push_back(index);
    }
    const auto num_tokens = static_cast<std::int32_t>(batch.token_ids.size());
    batch.qo_indptr.push_back(num_tokens);
    if (chunk.end == static_cast<int>(state.tokens.size())) {
      batch.logit_rows.push_back(num_tokens - 1);
      step.sampled.push_back(chunk.request);
    }
  }
  batch.table = pool_.table(sequences);
  return batch;
}

void Scheduler::complete(const Step& step, const std::vector<std::int32_t>& tokens,
                         const std::vector<std::int32_t>& eos_token_ids) {
  for (const Chunk& chunk : step.chunks) {
    State& state = states_[chunk.request];
    state.num_computed = chunk.end;
    if (share_prefixes_ && chunk.is_prompt) pool_.cache_prefix(state.sequence);
  }
  for (std::size_t i = 0; i < step.sampled.size(); ++i) {
    State& state = states_[step.sampled[i]];
    state.tokens.push_back(tokens[i]);
    state.is_finished = num_generated(step.sampled[i]) == state.request.max_new_tokens ||
                        std::ranges::count(eos_token_ids, tokens[i]) > 0;
    if (!state.is_finished) continue;
    std::erase(running_, step.sampled[i]);
    leave(state, share_prefixes_);
  }
}

}  // namespace tinyllama
