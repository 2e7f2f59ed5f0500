#include "report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace tinyllama {
namespace {

std::string rate(std::int64_t tokens, double seconds) {
  return seconds > 0 ? fmt::format("{:.0f} tokens/s", static_cast<double>(tokens) / seconds) : "-";
}

std::string operator_table(const OperatorTimes& times) {
  std::vector<std::pair<double, std::string>> rows;
  double total = 0;
  for (const auto& [name, seconds] : times.seconds()) {
    rows.emplace_back(seconds, name);
    total += seconds;
  }
  std::ranges::sort(rows, std::greater());
  std::string text = fmt::format(
      "\n{:<18}{:>12}{:>9}\n",
      times.is_sampled() ? fmt::format("1 step of {}", OperatorTimes::kSampledStep) : "operator",
      "time", "share");
  for (const auto& [seconds, name] : rows) {
    text += fmt::format("{:<18}{:>9.1f} ms{:>7.1f} %\n", name, seconds * 1e3,
                        100 * seconds / std::max(total, 1e-12));
  }
  return text;
}

}  // namespace

std::string report(const EngineStats& stats, const OperatorTimes& times, const LlamaModel& model) {
  const ModelLimits& limits = model.limits();
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += fmt::format("{:<18}{}\n", name, value);
  };
  line("device", fmt::format("{}, {}", to_string(model.device()), name(model.dtype())));
  line("steps", fmt::format("{}", stats.num_steps));
  line("prefill",
       fmt::format("{} tokens, {}; {} more were in the cache", stats.prompt_tokens,
                   rate(stats.prompt_tokens, stats.prefill_seconds), stats.prefix_hit_tokens));
  line("decode", fmt::format("{} tokens, {}", stats.generated_tokens,
                             rate(stats.generated_tokens, stats.decode_seconds)));
  line("pages used", fmt::format("at most {} of {} ({} tokens each)", stats.peak_pages_in_use,
                                 limits.num_pages, limits.page_size));
  line("saved by sharing", fmt::format("at most {} pages at a time", stats.peak_pages_saved));
  return text + operator_table(times);
}

}  // namespace tinyllama
