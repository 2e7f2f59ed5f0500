#include "generate_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "byte_tokenizer.h"
#include "engine.h"
#include "report.h"

namespace tinyllama {
namespace {

using Prompts = std::vector<std::vector<std::int32_t>>;

void print(const std::string& text, std::FILE* file = stdout) {
  std::fputs(text.c_str(), file);
  std::fflush(file);
}

std::size_t common_prefix(const Prompts& prompts) {
  std::size_t length = prompts[0].size();
  for (const auto& prompt : prompts) {
    const auto end = std::ranges::mismatch(prompts[0], prompt).in1;
    length = std::min(length, static_cast<std::size_t>(end - prompts[0].begin()));
  }
  return length;
}

// Writes tokens as text, or as numbers where the vocabulary is not one of bytes.
class Output {
 public:
  Output(const LlamaConfig& config, const Prompts& prompts)
      : is_text_(has_byte_vocabulary(config)),
        streams_(prompts.size() == 1),
        shows_progress_(!streams_ && ::isatty(STDERR_FILENO)),
        texts_(prompts.size()) {
    const std::size_t shared = streams_ ? 0 : common_prefix(prompts);
    if (shared > 1) print(text_of(prompts[0], 0, shared) + " …\n");
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      texts_[i] = text_of(prompts[i], shared, prompts[i].size());
      if (!streams_) texts_[i] = fmt::format("\n[{}] {}", i + 1, texts_[i]);
    }
    if (streams_) print(texts_[0]);
  }

  void add(std::size_t request, std::int32_t token, bool is_last) {
    const std::string text = text_of({token}, 0, 1) + (is_last ? "\n" : "");
    texts_[request] += text;
    if (streams_) print(text);
    if (is_last && !streams_) print((shows_progress_ ? "\r\x1b[K" : "") + texts_[request]);
  }

  void progress(const Engine& engine) const {
    if (!shows_progress_) return;
    const Scheduler& scheduler = engine.scheduler();
    print(fmt::format("\r\x1b[Kstep {}: {} running, {} waiting, {} tokens generated",
                      engine.stats().num_steps, scheduler.num_running(), scheduler.num_waiting(),
                      engine.stats().generated_tokens),
          stderr);
  }

  void finish() const {
    if (shows_progress_) print("\r\x1b[K", stderr);
  }

 private:
  std::string text_of(const std::vector<std::int32_t>& tokens, std::size_t begin,
                      std::size_t end) const {
    std::string text;
    for (std::size_t i = begin; i < end; ++i) {
      if (!is_text_) {
        text += fmt::format("{} ", tokens[i]);
      } else if (const auto byte = printable_byte(tokens[i])) {
        text += *byte;
      }
    }
    return text;
  }

  bool is_text_, streams_, shows_progress_;
  std::vector<std::string> texts_;
};

// Pages for all prompts at once without sharing.
int pages_for(const Prompts& prompts, const GenerateOptions& options) {
  const std::size_t page_size = options.limits.page_size;
  std::size_t pages = 0;
  for (const auto& prompt : prompts) {
    pages += (prompt.size() + options.max_new_tokens + page_size - 1) / page_size;
  }
  return static_cast<int>(pages);
}

}  // namespace

void generate(const GenerateOptions& options) {
  const LlamaConfig config = read_llama_config(options.model);
  const Prompts prompts = tokenize_prompts(options, config);
  ModelLimits limits = options.limits;
  if (limits.num_pages == 0) limits.num_pages = pages_for(prompts, options);
  // A step has at least one token a request.
  limits.max_requests = std::min(limits.max_requests, limits.max_batch_tokens);
  LlamaModel model(options.model, quire::parse_device(options.device), limits,
                   options.compute_type);
  Engine engine(model, !options.no_sharing);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    engine.add({.prompt = prompts[i],
                .max_new_tokens = options.max_new_tokens,
                .temperature = static_cast<float>(options.temperature),
                .top_p = static_cast<float>(options.top_p),
                .seed = options.seed + static_cast<std::int64_t>(i)});
  }
  Output output(config, prompts);
  const auto on_token = [&](std::size_t request, std::int32_t token, bool is_last) {
    output.add(request, token, is_last);
  };
  while (engine.step(on_token)) output.progress(engine);
  output.finish();
  print("\n" + report(engine.stats(), model.times(), model));
}

}  // namespace tinyllama

namespace quire::cli {

void add_generate_command(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Continue prompts with a small Llama");
  auto options = std::make_shared<tinyllama::GenerateOptions>();
  tinyllama::add_options(*command, *options);
  command->callback([options] { tinyllama::generate(*options); });
}

}  // namespace quire::cli
