#include "engine.h"

#include <algorithm>

namespace tinyllama {

Engine::Engine(LlamaModel& model, bool share_prefixes)
    : model_(model),
      scheduler_(model.limits(), model.config().max_positions, share_prefixes),
      sampler_(model.limits().max_requests, model.config().vocab_size, model.device()) {}

bool Engine::step(const OnToken& on_token) {
  const auto begin = Clock::now();
  const Step step = scheduler_.next();
  if (step.chunks.empty()) return false;
  const std::vector<std::int32_t> tokens = compute(step);
  count(step, seconds_since(begin));
  scheduler_.complete(step, tokens, model_.config().eos_token_ids);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    on_token(step.sampled[i], tokens[i], scheduler_.is_finished(step.sampled[i]));
  }
  return true;
}

std::vector<std::int32_t> Engine::compute(const Step& step) {
  model_.times().begin_step(stats_.num_steps);
  const quire::TensorView logits = model_.forward(step.batch);
  std::vector<RowSettings> rows;
  for (const std::size_t index : step.sampled) {
    const Request& request = scheduler_.request(index);
    rows.push_back(
        {request.temperature, request.top_p, request.seed, scheduler_.num_generated(index)});
  }
  std::vector<std::int32_t> tokens;
  if (rows.empty()) {
    quire::synchronize(model_.device());
  } else {
    model_.times().measure("sampling", [&] { tokens = sampler_.sample(logits, rows); });
  }
  return tokens;
}

void Engine::count(const Step& step, double seconds) {
  std::int64_t prompt_tokens = 0, num_tokens = 0;
  for (const Chunk& chunk : step.chunks) {
    num_tokens += chunk.end - chunk.begin;
    if (chunk.is_prompt) prompt_tokens += chunk.end - chunk.begin;
  }
  const double share = static_cast<double>(prompt_tokens) / static_cast<double>(num_tokens);
  const quire::KvPoolStats pool = scheduler_.pool_stats();
  ++stats_.num_steps;
  stats_.prompt_tokens += prompt_tokens;
  stats_.generated_tokens += static_cast<std::int64_t>(step.sampled.size());
  stats_.prefill_seconds += seconds * share;
  stats_.decode_seconds += seconds * (1 - share);
  stats_.peak_pages_in_use = std::max(stats_.peak_pages_in_use, pool.pages_in_use);
  stats_.peak_pages_saved = std::max(stats_.peak_pages_saved, pool.pages_saved);
  stats_.prefix_hit_tokens = scheduler_.prefix_hit_tokens();
}

}  // namespace tinyllama
