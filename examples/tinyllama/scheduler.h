// Continuous batching: which tokens of which requests make up the next step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "llama_model.h"
#include "quire/quire.h"

namespace tinyllama {

struct Request {
  std::vector<std::int32_t> prompt;  // token ids, at least one
  int max_new_tokens = 64;
  float temperature = 0;  // 0: the most probable token
  float top_p = 1;
  std::int64_t seed = 0;
};

// Tokens [begin, end) of a request, computed in one step.
struct Chunk {
  std::size_t request;
  int begin, end;
  bool is_prompt;
};

struct Step {
  std::vector<Chunk> chunks;
  std::vector<std::size_t> sampled;  // the requests that get a token, in order of the logit rows
  ModelBatch batch;
};

// Requests join as soon as there is room and leave when they are done. A step takes one token of
// every request that is generating, then fills up with pieces of prompts. When pages run out, the
// request that joined last goes back to the queue and is computed again later.
class Scheduler {
 public:
  Scheduler(const ModelLimits& limits, int max_positions, bool share_prefixes);

  // Throws quire::Error for a request that could never be served.
  std::size_t add(Request request);
  Step next();  // without chunks when all requests are done
  // Enters what the step computed; tokens[i] belongs to step.sampled[i].
  void complete(const Step& step, const std::vector<std::int32_t>& tokens,
                const std::vector<std::int32_t>& eos_token_ids);

  const Request& request(std::size_t index) const { return states_.at(index).request; }
  int num_generated(std::size_t index) const;
  bool is_finished(std::size_t index) const { return states_.at(index).is_finished; }
  std::size_t num_running() const { return running_.size(); }
  std::size_t num_waiting() const { return waiting_.size(); }
  quire::KvPoolStats pool_stats() const { return pool_.stats(); }
  // Tokens that were in the cache already when their request joined.
  std::int64_t prefix_hit_tokens() const { return prefix_hit_tokens_; }

 private:
  struct State {
    Request request;
    std::vector<std::int32_t> tokens;  // prompt and generated
    quire::SequenceId sequence = -1;
    int num_computed = 0;  // tokens whose keys and values are in the cache
    bool is_finished = false;

    bool is_in_prompt() const { return num_computed < static_cast<int>(request.prompt.size()); }
  };

  void admit(Step& step, int& budget);
  void take_chunk(Step& step, std::size_t request, int& budget);
  bool make_room(const Step& step, std::size_t request, int num_tokens);
  bool waits_for_prefix(const State& state) const;
  void preempt(std::size_t request);
  void leave(State& state, bool keep_prefix);
  ModelBatch batch_of(Step& step) const;

  ModelLimits limits_;
  int max_positions_;
  bool share_prefixes_;
  quire::KvPool pool_;
  std::vector<State> states_;
  std::vector<std::size_t> running_;  // in the order of joining
  std::deque<std::size_t> waiting_;
  std::int64_t prefix_hit_tokens_ = 0;
};

}  // namespace tinyllama
