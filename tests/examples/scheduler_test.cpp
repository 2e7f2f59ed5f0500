// The scheduler without a model: random requests and limits, invented tokens.
#include "scheduler.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "support/expect_error.h"

namespace quire::test {
namespace {

using tinyllama::Chunk;
using tinyllama::ModelLimits;
using tinyllama::Request;
using tinyllama::Scheduler;
using tinyllama::Step;
using Ids = std::vector<std::int32_t>;

// The next token depends on the request and its position only, as a model's would.
std::int32_t invented_token(std::size_t request, int position) {
  return static_cast<std::int32_t>(1000 + request * 100 + position);
}

// What a model would keep in the cache: here the token ids themselves.
using Slots = std::vector<std::int32_t>;

std::int32_t expected_token(const Scheduler& scheduler, std::size_t request, int position) {
  const Ids& prompt = scheduler.request(request).prompt;
  const int num_prompt = static_cast<int>(prompt.size());
  return position < num_prompt ? prompt[position] : invented_token(request, position);
}

void check_sizes(const Step& step, const ModelLimits& limits) {
  const auto& batch = step.batch;
  RC_ASSERT(batch.token_ids.size() <= static_cast<std::size_t>(limits.max_batch_tokens));
  RC_ASSERT(step.chunks.size() <= static_cast<std::size_t>(limits.max_requests));
  RC_ASSERT(batch.qo_indptr.size() == step.chunks.size() + 1);
  RC_ASSERT(batch.logit_rows.size() == step.sampled.size());
}

// Writes a step's tokens where its page table says, then reads every request from its first token
// on: what was shared, sent back or computed earlier must be there.
void check_tokens(const Step& step, const Scheduler& scheduler, int page_size, Slots& slots) {
  const auto& batch = step.batch;
  const auto slot = [&](std::size_t chunk, int position) -> std::int32_t& {
    const int page = batch.table.indices[batch.table.indptr[chunk] + position / page_size];
    return slots.at(page * page_size + position % page_size);
  };
  for (std::size_t i = 0; i < step.chunks.size(); ++i) {
    const Chunk& chunk = step.chunks[i];
    RC_ASSERT(chunk.begin < chunk.end);
    RC_ASSERT(batch.qo_indptr[i + 1] - batch.qo_indptr[i] == chunk.end - chunk.begin);
    for (int position = chunk.begin; position < chunk.end; ++position) {
      const int row = batch.qo_indptr[i] + position - chunk.begin;
      RC_ASSERT(batch.positions[row] == position);
      RC_ASSERT(batch.batch_indices[row] == static_cast<std::int32_t>(i));
      slot(i, position) = batch.token_ids[row];
    }
  }
  for (std::size_t i = 0; i < step.chunks.size(); ++i) {
    const Chunk& chunk = step.chunks[i];
    // The page table ends with the chunk: attention is causal from the end.
    const int num_pages = batch.table.indptr[i + 1] - batch.table.indptr[i];
    RC_ASSERT((num_pages - 1) * page_size + batch.table.last_page_len[i] == chunk.end);
    for (int position = 0; position < chunk.end; ++position) {
      RC_ASSERT(slot(i, position) == expected_token(scheduler, chunk.request, position));
    }
  }
}

int number(int begin, int end) { return *rc::gen::resize(100, rc::gen::inRange(begin, end)); }

TEST(Scheduler, every_request_gets_all_its_tokens) {
  const bool ok = rc::check("random requests and limits", [] {
    const ModelLimits limits{.max_batch_tokens = number(1, 20),
                             .max_requests = number(1, 6),
                             .num_pages = number(4, 16),
                             .page_size = number(1, 4)};
    const int capacity = limits.num_pages * limits.page_size;
    Scheduler scheduler(limits, 1000, *rc::gen::arbitrary<bool>());
    const int num_requests = number(1, 8);
    for (int i = 0; i < num_requests; ++i) {
      const int num_prompt = number(1, capacity);
      const auto prompt =
          *rc::gen::container<Ids>(num_prompt, rc::gen::elementOf(Ids{0, 0, 0, 0, 1}));
      scheduler.add({.prompt = prompt, .max_new_tokens = number(1, capacity - num_prompt + 1)});
    }
    Slots slots(capacity, -1);
    int num_steps = 0;
    for (Step step = scheduler.next(); !step.chunks.empty(); step = scheduler.next()) {
      RC_ASSERT(++num_steps < 2000);
      check_sizes(step, limits);
      check_tokens(step, scheduler, limits.page_size, slots);
      Ids tokens;
      for (const std::size_t request : step.sampled) {
        const int num_prompt = static_cast<int>(scheduler.request(request).prompt.size());
        tokens.push_back(invented_token(request, num_prompt + scheduler.num_generated(request)));
      }
      scheduler.complete(step, tokens, {});
    }
    for (int i = 0; i < num_requests; ++i) {
      RC_ASSERT(scheduler.is_finished(i));
      RC_ASSERT(scheduler.num_generated(i) == scheduler.request(i).max_new_tokens);
    }
    RC_ASSERT(scheduler.pool_stats().pages_in_use == 0);
  });
  EXPECT_TRUE(ok);
}

TEST(Scheduler, a_prompt_in_pieces_does_not_stop_generation) {
  Scheduler scheduler({.max_batch_tokens = 8, .max_requests = 4, .num_pages = 64, .page_size = 4},
                      1000, true);
  scheduler.add({.prompt = Ids(4, 1), .max_new_tokens = 10});
  Step step = scheduler.next();
  scheduler.complete(step, {5}, {});
  scheduler.add({.prompt = Ids(20, 2), .max_new_tokens = 10});
  step = scheduler.next();
  ASSERT_EQ(step.chunks.size(), 2u);
  EXPECT_FALSE(step.chunks[0].is_prompt);
  EXPECT_EQ(step.chunks[1].end, 7) << "what the generating request leaves of 8 tokens";
  EXPECT_EQ(step.sampled, std::vector<std::size_t>{0});
}

TEST(Scheduler, requests_with_one_prefix_wait_for_it_to_be_computed_once) {
  Scheduler scheduler({.max_batch_tokens = 64, .max_requests = 8, .num_pages = 64, .page_size = 4},
                      1000, true);
  for (int i = 0; i < 3; ++i) {
    Ids prompt(12, 1);
    prompt.push_back(10 + i);
    scheduler.add({.prompt = prompt, .max_new_tokens = 2});
  }
  Step step = scheduler.next();
  EXPECT_EQ(step.chunks.size(), 1u);
  scheduler.complete(step, {5}, {});
  step = scheduler.next();
  ASSERT_EQ(step.chunks.size(), 3u);
  EXPECT_EQ(step.batch.token_ids.size(), 3u) << "one token each";
  EXPECT_EQ(scheduler.prefix_hit_tokens(), 24);
  EXPECT_EQ(scheduler.pool_stats().pages_saved, 6);
}

TEST(Scheduler, eos_ends_a_request) {
  Scheduler scheduler({}, 1000, true);
  scheduler.add({.prompt = {1}, .max_new_tokens = 10});
  scheduler.complete(scheduler.next(), {257}, {257});
  EXPECT_TRUE(scheduler.is_finished(0));
  EXPECT_TRUE(scheduler.next().chunks.empty());
}

TEST(Scheduler, requests_that_can_never_be_served) {
  Scheduler scheduler({.num_pages = 4, .page_size = 4}, 18, true);
  const auto bad = ErrorCode::invalid_argument;
  expect_errors({
      {[&] { scheduler.add({}); }, bad, "request: prompt: got no tokens, expected at least one"},
      {[&] { scheduler.add({.prompt = {1}, .max_new_tokens = 0}); }, bad,
       "request: max_new_tokens: got 0, expected at least 1"},
      {[&] { scheduler.add({.prompt = Ids(9), .max_new_tokens = 10}); }, bad,
       "request: prompt: got 9 tokens and 10 to generate, expected at most 18 positions"},
      {[&] { scheduler.add({.prompt = Ids(9), .max_new_tokens = 8}); }, bad,
       "request: prompt: got 9 tokens and 8 to generate, expected at most 16 in the cache"},
  });
  EXPECT_EQ(scheduler.num_waiting(), 0u);
}

}  // namespace
}  // namespace quire::test
