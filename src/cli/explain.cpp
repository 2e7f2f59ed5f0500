// quire explain: plans a batch of attention and draws who does what. Needs no tensors and no GPU.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/plan_drawing.h"
#include "plan/attention.h"
#include "quire/error.h"

namespace quire::cli {
namespace {

struct ExplainOptions {
  std::vector<std::int32_t> kv_lens, qo_lens;
  std::string trace, heads = "32/8", svg;
  int batch = 64;
  int head_dim = 128;
  plan::AttentionTile tile{.num_workers = 132, .tile_q = 16, .tile_kv = 64};
  plan::AttentionProblem problem;
  int width = 100, lines = 24;
};

[[noreturn]] void fail(const std::string& argument, const std::string& got,
                       const std::string& expected) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("explain: {}: got {}, expected {}", argument, got, expected));
}

// "32/8": query heads / KV heads.
void read_heads(const std::string& text, plan::AttentionProblem& problem) {
  int qo = 0, kv = 0;
  char end = 0;
  if (std::sscanf(text.c_str(), "%d/%d%c", &qo, &kv, &end) != 2 || kv < 1 || qo < 1 || qo % kv) {
    fail("--heads", text, "query heads/KV heads such as 32/8, one a multiple of the other");
  }
  problem.group_size = qo / kv;
  problem.num_kv_heads = kv;
}

// The number after `key` in a line of JSON, or the second column of a CSV line; -1: none.
std::int32_t prompt_tokens(const std::string& line) {
  constexpr std::string_view kKey = "\"input_length\":";
  std::size_t at = line.find(kKey);
  at = at != std::string::npos ? at + kKey.size() : line.find(',') + 1;
  while (at < line.size() && line[at] == ' ') ++at;
  std::int32_t tokens = -1;
  std::from_chars(line.data() + std::min(at, line.size()), line.data() + line.size(), tokens);
  return tokens;
}

// Prompt lengths of the first `count` requests: JSON lines with "input_length", or CSV with the
// prompt's tokens in the second column.
std::vector<std::int32_t> read_trace(const std::string& path, int count) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::io, fmt::format("explain: {}: cannot be read", path));
  std::vector<std::int32_t> lens;
  std::string line;
  for (int number = 1; static_cast<int>(lens.size()) < count && std::getline(file, line);
       ++number) {
    const std::int32_t tokens = prompt_tokens(line);
    if (tokens >= 0) {
      lens.push_back(tokens);
    } else if (number > 1 && !line.empty()) {  // line 1 may be a header
      fail(path, fmt::format("line {} without a length", number), "requests with prompt lengths");
    }
  }
  return lens;
}

void check_lens(const char* argument, const std::vector<std::int32_t>& lens) {
  for (const std::int32_t len : lens) {
    if (len < 0) fail(argument, fmt::format("{}", len), "0 or more");
  }
}

void explain(ExplainOptions& options) {
  read_heads(options.heads, options.problem);
  if (!options.trace.empty()) options.kv_lens = read_trace(options.trace, options.batch);
  if (options.kv_lens.empty()) fail("--kv-lens", "no requests", "--kv-lens or --trace");
  if (options.qo_lens.size() < 2) {
    options.qo_lens.resize(options.kv_lens.size(),
                           options.qo_lens.empty() ? 1 : options.qo_lens.front());
  }
  if (options.qo_lens.size() != options.kv_lens.size()) {
    fail("--qo-lens", fmt::format("{} lengths", options.qo_lens.size()),
         fmt::format("1 or {}, as many as --kv-lens", options.kv_lens.size()));
  }
  check_lens("--kv-lens", options.kv_lens);
  check_lens("--qo-lens", options.qo_lens);
  options.problem.qo_lens = options.qo_lens;
  options.problem.kv_lens = options.kv_lens;
  const plan::AttentionPlan plan = plan::plan_attention(options.problem, options.tile);
  const PlanDrawing drawing = draw_plan(plan, options.problem, options.tile);
  const std::string title = fmt::format(
      "{} requests, {} heads, tile {} x {}{}", options.kv_lens.size(), options.heads,
      options.tile.tile_q, options.tile.tile_kv, options.problem.causal ? ", causal" : "");
  fmt::print("{}\n{}", title, plan_as_text(drawing, options.width, options.lines));
  fmt::print(
      "load in steps of {} tokens: longest {:.1f}, mean {:.1f}, shortest {:.1f}; balance {:.1f} "
      "%\n",
      options.tile.tile_kv, drawing.longest, drawing.mean, drawing.shortest,
      100 * drawing.balance());
  fmt::print("{} work items, {} split tiles, {} bytes of workspace (head_dim {})\n",
             plan.items.size(), drawing.num_split_tiles, plan.partial_bytes(options.head_dim),
             options.head_dim);
  if (options.svg.empty()) return;
  std::ofstream file(options.svg);
  file << plan_as_svg(drawing, title);
  if (!file.flush()) {
    throw Error(ErrorCode::io, fmt::format("explain: {}: cannot be written", options.svg));
  }
  fmt::print("wrote {}\n", options.svg);
}

}  // namespace

void add_explain_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("explain", "Plan a batch of attention and draw which worker does what");
  auto options = std::make_shared<ExplainOptions>();
  const auto at_least_1 = CLI::Range(1, 1 << 30);
  auto* lens = command->add_option("--kv-lens", options->kv_lens, "KV tokens of each request")
                   ->delimiter(',');
  command->add_option("--trace", options->trace, "Take KV lengths from a trace (.csv or .jsonl)")
      ->check(CLI::ExistingFile)
      ->excludes(lens);
  command->add_option("--batch", options->batch, "Requests to take from the trace")
      ->check(at_least_1)
      ->capture_default_str();
  command
      ->add_option("--qo-lens", options->qo_lens,
                   "Query tokens of each request, or one for all; default 1")
      ->delimiter(',');
  command->add_option("--heads", options->heads, "Query heads/KV heads")->capture_default_str();
  command->add_option("--head-dim", options->head_dim, "Of V, for the size of the workspace")
      ->check(CLI::Range(16, 256))
      ->capture_default_str();
  command->add_option("--workers", options->tile.num_workers, "Thread blocks or CPU threads")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--tile-q", options->tile.tile_q, "Packed rows an item")
      ->check(at_least_1)
      ->capture_default_str();
  command->add_option("--tile-kv", options->tile.tile_kv, "Tokens a step")
      ->check(at_least_1)
      ->capture_default_str();
  command->add_flag("--causal", options->problem.causal, "Hint: causal mask");
  command->add_option("--window-left", options->problem.window_left, "Hint: sliding window")
      ->check(CLI::Range(-1, 1 << 30));
  command
      ->add_option("--fixed-split-size", options->problem.fixed_split_size,
                   "Split KV at multiples of this many tokens")
      ->check(at_least_1);
  command->add_flag("--disable-split-kv", options->problem.disable_split_kv, "Never split KV");
  command->add_option("--width", options->width, "Characters a line")
      ->check(CLI::Range(10, 1000))
      ->capture_default_str();
  command->add_option("--lines", options->lines, "Workers to print")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  command->add_option("--svg", options->svg, "Also draw into this file");
  command->callback([options] { explain(*options); });
}

}  // namespace quire::cli
