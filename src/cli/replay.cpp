// quire replay: drives the attention engine with the request lengths of a trace, as a serving loop
// would, and says how long steps and plans take, how near the limit they are, how pages are reused.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/plan_drawing.h"
#include "cli/replay_loop.h"
#include "cli/replay_trace.h"
#include "quire/attention.h"
#include "quire/error.h"

namespace quire::cli {
namespace {

struct ReplayShape {
  const char* name;
  int num_qo_heads, num_kv_heads, head_dim;
};
constexpr ReplayShape kShapes[] = {
    {"small", 4, 2, 32}, {"llama3-8b", 32, 8, 128}, {"llama3-70b-tp8", 8, 1, 128}};

struct ReplayOptions {
  std::string trace, device = "cpu", shape = "small", csv, svg;
  int requests = 64, shorten = 16, layers = 1, page_size = 16;
  int max_steps = 0;
  std::int64_t pool_tokens = 1 << 15;
  LoopLimits limits;
  bool batch_invariant = false;
  double gbps = 0, tflops = 0;  // the device's limits; 0: not compared
  plan::AttentionTile tile{.num_workers = 132, .tile_q = 16, .tile_kv = 64};  // for the balance
};

struct StepTimes {
  std::int64_t requests, rows;
  double plan_us, run_us;  // of all layers
  double bytes, flops;     // of one layer
  double balance;          // mean load / largest load, by the planner's costs
};

double elapsed_us(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

TensorView ints(std::vector<std::int32_t>& values) {
  return TensorView::contiguous(values.data(), DType::i32,
                                {static_cast<std::int64_t>(values.size())});
}

// Random bf16 in (-1, 1): zeros would cost a GPU less power, and so less time, than numbers do.
Buffer random_bf16(std::int64_t elements, Device device) {
  constexpr std::size_t kBlock = std::size_t{1} << 20;
  std::mt19937 random(1);
  std::vector<std::uint16_t> block(kBlock);
  for (std::uint16_t& bits : block) {
    const auto mantissa_and_sign = random() & 0x807f;
    bits = static_cast<std::uint16_t>(mantissa_and_sign | (0x3e00 + ((random() & 1) << 7)));
  }
  const std::size_t bytes = static_cast<std::size_t>(elements) * 2;
  Buffer buffer(bytes, device);
  for (std::size_t at = 0; at < bytes; at += kBlock * 2) {
    copy(static_cast<std::byte*>(buffer.data()) + at, device, block.data(), kCpu,
         std::min(kBlock * 2, bytes - at));
  }
  return buffer;
}

// The engine, its memory and one step on it.
class Replayer {
 public:
  Replayer(const ReplayOptions& options, const ReplayShape& shape, int num_pages)
      : options_(options),
        device_(parse_device(options.device)),
        attention_(device_),
        shape_{.num_qo_heads = shape.num_qo_heads,
               .num_kv_heads = shape.num_kv_heads,
               .head_dim_qk = shape.head_dim,
               .head_dim_vo = shape.head_dim,
               .page_size = options.page_size},
        num_pages_(num_pages) {
    const std::int64_t rows = options.limits.max_step_tokens;
    const std::int64_t row = std::int64_t{shape.num_qo_heads} * shape.head_dim;
    const std::int64_t pool =
        std::int64_t{num_pages} * options.page_size * shape.num_kv_heads * shape.head_dim;
    q_ = random_bf16(rows * row, device_);
    out_ = Buffer(static_cast<std::size_t>(rows * row) * 2, device_);
    k_ = random_bf16(pool, device_);
    v_ = random_bf16(pool, device_);
  }

  StepTimes run(const LoopStep& step, const KvPool& pool) {
    KvPool::Table table = pool.table(step.ids);
    std::vector<std::int32_t> qo_indptr{0};
    for (const std::int32_t len : step.qo_lens) qo_indptr.push_back(qo_indptr.back() + len);
    StepTimes times{.requests = static_cast<std::int64_t>(step.ids.size()), .rows = step.rows()};
    auto start = std::chrono::steady_clock::now();
    attention_.plan(shape_, ints(qo_indptr),
                    {ints(table.indptr), ints(table.indices), ints(table.last_page_len)},
                    {.causal = true, .batch_invariant = options_.batch_invariant});
    times.plan_us = elapsed_us(start);
    synchronize(device_);
    const auto rows = [&](const Buffer& buffer) {
      return TensorView::contiguous(buffer.data(), DType::bf16,
                                    {times.rows, shape_.num_qo_heads, shape_.head_dim_qk}, device_);
    };
    const auto pages = [&](const Buffer& buffer) {
      return TensorView::contiguous(
          buffer.data(), DType::bf16,
          {num_pages_, shape_.page_size, shape_.num_kv_heads, shape_.head_dim_qk}, device_);
    };
    start = std::chrono::steady_clock::now();
    for (int layer = 0; layer < options_.layers; ++layer) {
      attention_.run(rows(q_), {pages(k_), pages(v_), KvLayout::nhd}, rows(out_), {},
                     {.causal = true});
    }
    synchronize(device_);
    times.run_us = elapsed_us(start);
    count_work(step, times);
    times.balance = drawing(step).balance();
    return times;
  }

  // Who does what, on as many workers as the options say.
  PlanDrawing drawing(const LoopStep& step) const {
    const plan::AttentionProblem problem{.qo_lens = step.qo_lens,
                                         .kv_lens = step.kv_lens,
                                         .group_size = shape_.num_qo_heads / shape_.num_kv_heads,
                                         .num_kv_heads = shape_.num_kv_heads,
                                         .causal = true};
    return draw_plan(plan::plan_attention(problem, options_.tile), problem, options_.tile);
  }

 private:
  // K and V once, q and out; products of the tokens that rows see under the causal mask.
  void count_work(const LoopStep& step, StepTimes& times) const {
    const double row = 2.0 * shape_.num_qo_heads * shape_.head_dim_qk;  // bytes
    const double token = 4.0 * shape_.num_kv_heads * shape_.head_dim_qk;
    times.bytes = 2 * row * static_cast<double>(times.rows);
    times.flops = 0;
    for (std::size_t r = 0; r < step.ids.size(); ++r) {
      const double qo = step.qo_lens[r], kv = step.kv_lens[r];
      times.bytes += token * kv;
      times.flops += 4.0 * shape_.num_qo_heads * shape_.head_dim_qk * qo * (kv - (qo - 1) / 2);
    }
  }

  const ReplayOptions& options_;
  Device device_;
  BatchAttention attention_;
  AttentionShape shape_;
  std::int64_t num_pages_;
  Buffer q_, out_, k_, v_;
};

// The least time of one layer, by the limits given.
double limit_us(const ReplayOptions& options, const StepTimes& t) {
  const double memory = options.gbps > 0 ? t.bytes / options.gbps * 1e-3 : 0;
  const double products = options.tflops > 0 ? t.flops / options.tflops * 1e-6 : 0;
  return std::max(memory, products);
}

template <class Value>
double percentile(const std::vector<StepTimes>& steps, double share, Value&& value) {
  std::vector<double> values;
  for (const StepTimes& t : steps) values.push_back(value(t));
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void print_percentiles(const char* name, const std::vector<StepTimes>& steps, auto value) {
  fmt::print("{:24} {:>10.1f} {:>10.1f} {:>10.1f}\n", name, percentile(steps, 0.5, value),
             percentile(steps, 0.9, value), percentile(steps, 1, value));
}

void print_report(const ReplayOptions& options, const std::vector<StepTimes>& steps,
                  const LoopCounts& counts, const KvPoolStats& pages) {
  const double layers = options.layers;
  fmt::print("{} requests completed in {} steps, {} preempted; {} prompt and {} answer tokens\n",
             counts.completed, steps.size(), counts.preempted, counts.prompt_tokens,
             counts.answer_tokens);
  const std::int64_t seen = counts.prompt_tokens + pages.prefix_hit_tokens;
  fmt::print("pages: {:.1f} % of prompt tokens found in {} pages of {} tokens, {} evictions\n",
             seen == 0
                 ? 0.0
                 : 100.0 * static_cast<double>(pages.prefix_hit_tokens) / static_cast<double>(seen),
             pages.num_pages, options.page_size, pages.evictions);
  if (steps.empty()) return;
  fmt::print("{:24} {:>10} {:>10} {:>10}\n", "", "median", "90 %", "largest");
  print_percentiles("requests a step", steps, [](auto& t) { return double(t.requests); });
  print_percentiles("rows a step", steps, [](auto& t) { return double(t.rows); });
  print_percentiles("plan, us", steps, [](auto& t) { return t.plan_us; });
  print_percentiles("attention a layer, us", steps, [=](auto& t) { return t.run_us / layers; });
  print_percentiles("MB a layer", steps, [](auto& t) { return t.bytes * 1e-6; });
  double time_us = 0, bytes = 0, limit = 0, balance = 0;
  for (const StepTimes& t : steps) {
    time_us += t.run_us / layers;
    bytes += t.bytes;
    limit += limit_us(options, t);
    balance += t.balance / static_cast<double>(steps.size());
  }
  fmt::print("{:.1f} GB/s", bytes / time_us * 1e-3);
  if (limit > 0) fmt::print("; {:.1f} % of the limit", 100 * limit / time_us);
  fmt::print("; balance on {} workers by the planner's costs: mean {:.1f} %, least {:.1f} %\n",
             options.tile.num_workers, 100 * balance,
             100 * percentile(steps, 0, [](auto& t) { return t.balance; }));
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) {
    throw Error(ErrorCode::io, fmt::format("replay: {}: cannot be written", path));
  }
  fmt::print("wrote {}\n", path);
}

void write_csv(const ReplayOptions& options, const std::vector<StepTimes>& steps) {
  std::string text = "step,requests,rows,plan_us,layer_us,bytes,flops,limit_us,balance\n";
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const StepTimes& t = steps[i];
    text += fmt::format("{},{},{},{:.1f},{:.1f},{:.0f},{:.0f},{:.2f},{:.4f}\n", i, t.requests,
                        t.rows, t.plan_us, t.run_us / options.layers, t.bytes, t.flops,
                        limit_us(options, t), t.balance);
  }
  write_file(options.csv, text);
}

void replay(const ReplayOptions& options) {
  const auto* shape =
      std::ranges::find_if(kShapes, [&](const ReplayShape& s) { return options.shape == s.name; });
  std::vector<TraceRequest> requests = read_requests(options.trace, options.requests);
  shorten(requests, options.shorten);
  const int num_pages = static_cast<int>(options.pool_tokens / options.page_size);
  KvPool pool(num_pages, options.page_size);
  ServingLoop loop(requests, std::max(1, kTraceBlockTokens / options.shorten), pool,
                   options.limits);
  Replayer replayer(options, *shape, num_pages);
  std::vector<StepTimes> steps;
  LoopStep largest;  // to be drawn
  double most_bytes = -1;
  while (options.max_steps == 0 || static_cast<int>(steps.size()) < options.max_steps) {
    const std::optional<LoopStep> step = loop.begin_step();
    if (!step) break;
    steps.push_back(replayer.run(*step, pool));
    if (steps.back().bytes > most_bytes) {
      most_bytes = steps.back().bytes;
      largest = *step;
    }
    loop.end_step();
  }
  fmt::print("{} on {}, {}: {} heads of {} over {}, {} layer{} a step\n", options.trace,
             options.device, options.shape, shape->num_qo_heads, shape->head_dim,
             shape->num_kv_heads, options.layers, options.layers == 1 ? "" : "s");
  print_report(options, steps, loop.counts(), pool.stats());
  if (!options.csv.empty()) write_csv(options, steps);
  if (!options.svg.empty()) {
    write_file(options.svg,
               plan_as_svg(replayer.drawing(largest),
                           fmt::format("the step with most bytes: {} requests, {} rows",
                                       largest.ids.size(), largest.rows())));
  }
}

void add_limits(CLI::App& command, ReplayOptions& options, const CLI::Range& at_least_1) {
  command.add_option("--max-batch", options.limits.max_batch, "Requests at a time")
      ->check(at_least_1)
      ->capture_default_str();
  command
      .add_option("--max-step-tokens", options.limits.max_step_tokens,
                  "Rows of q of a step, decodes and chunks of prompts")
      ->check(at_least_1)
      ->capture_default_str();
  command.add_option("--pool-tokens", options.pool_tokens, "Tokens that the pages hold")
      ->check(at_least_1)
      ->capture_default_str();
  command.add_option("--page-size", options.page_size, "Tokens a page")
      ->check(at_least_1)
      ->capture_default_str();
  command.add_option("--gbps", options.gbps, "Memory bandwidth of the device, to compare with")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--tflops", options.tflops, "Its matrix products, to compare with")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--workers", options.tile.num_workers,
                  "Thread blocks that the balance and the picture are for")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command.add_option("--tile-q", options.tile.tile_q, "Packed rows an item, for these")
      ->check(at_least_1)
      ->capture_default_str();
  command.add_option("--tile-kv", options.tile.tile_kv, "Tokens a step, for these")
      ->check(at_least_1)
      ->capture_default_str();
}

}  // namespace

void add_replay_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "replay", "Drive attention with the request lengths of a trace, as a serving loop would");
  auto options = std::make_shared<ReplayOptions>();
  const CLI::Range at_least_1(1, 1 << 30);
  command
      ->add_option("trace", options->trace,
                   "Azure's .csv, or Mooncake's .jsonl whose prefix blocks share pages")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--device", options->device, "cpu or cuda:N")->capture_default_str();
  std::vector<std::string> names;
  for (const ReplayShape& shape : kShapes) names.emplace_back(shape.name);
  command->add_option("--shape", options->shape, "Heads of the model")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command->add_option("--requests", options->requests, "How many of the trace")
      ->check(at_least_1)
      ->capture_default_str();
  command->add_option("--shorten", options->shorten, "Divide all lengths by this; 1 for a GPU")
      ->check(CLI::Range(1, kTraceBlockTokens))
      ->capture_default_str();
  command->add_option("--layers", options->layers, "Runs of each plan")
      ->check(at_least_1)
      ->capture_default_str();
  command->add_option("--max-steps", options->max_steps, "Stop after so many; 0: at the end")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--batch-invariant", options->batch_invariant,
                    "Results that do not depend on the batch");
  add_limits(*command, *options, at_least_1);
  command->add_option("--csv", options->csv, "Also write a line a step into this file");
  command->add_option("--svg", options->svg, "Draw the step with most bytes into this file");
  command->callback([options] { replay(*options); });
}

}  // namespace quire::cli
