#include "generate_options.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "byte_tokenizer.h"

namespace tinyllama {
namespace {

std::vector<std::int32_t> parse_ids(const std::string& text) {
  std::vector<std::int32_t> ids;
  const char *at = text.data(), *const end = at + text.size();
  while (at != end) {
    std::int32_t id = 0;
    const auto [rest, error] = std::from_chars(at, end, id);
    const bool is_followed = rest != end && *rest == ',' && rest + 1 != end;
    if (error != std::errc() || (rest != end && !is_followed)) {
      throw quire::Error(
          quire::ErrorCode::invalid_argument,
          fmt::format("generate: --prompt-ids: got '{}', expected numbers like 1,2,3", text));
    }
    ids.push_back(id);
    at = is_followed ? rest + 1 : end;
  }
  return ids;
}

}  // namespace

void add_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("--model", options.model, "Directory with config.json and model.safetensors")
      ->required();
  auto* file = command.add_option("--prompts", options.prompts_file,
                                  "File with one prompt a line; \\n stands for a line break");
  auto* text = command.add_option("--prompt", options.prompts, "A prompt; may be repeated");
  auto* ids = command.add_option("--prompt-ids", options.prompt_ids,
                                 "A prompt as token ids, e.g. 1,2,3; may be repeated");
  file->excludes(text)->excludes(ids);
  text->excludes(ids);
  command.add_option("-n,--max-new-tokens", options.max_new_tokens, "Tokens to generate a prompt")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--temperature", options.temperature, "0 takes the most probable token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", options.top_p, "Sample from the most probable tokens of this mass")
      ->capture_default_str()
      ->check(CLI::Range(0., 1.));
  command.add_option("--seed", options.seed, "Prompt i is sampled with seed + i")
      ->capture_default_str();
  command.add_option("--device", options.device, "cpu or cuda:N")->capture_default_str();
  command.add_option("--dtype", options.compute_type, "What to compute with")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, ComputeType>{{"auto", ComputeType::automatic},
                                             {"f32", ComputeType::f32},
                                             {"bf16", ComputeType::bf16},
                                             {"f16", ComputeType::f16}}));
  ModelLimits& limits = options.limits;
  command.add_option("--page-size", limits.page_size, "Tokens in a page of the KV-cache")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      .add_option("--pages", limits.num_pages,
                  "Pages of the KV-cache; by default enough for all prompts without sharing")
      ->check(CLI::PositiveNumber);
  command.add_option("--batch-tokens", limits.max_batch_tokens, "Most tokens in one step")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--max-requests", limits.max_requests, "Most requests in one step")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_flag("--no-sharing", options.no_sharing, "Compute and store every prompt in full");
}

std::vector<std::string> read_prompts(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw quire::Error(quire::ErrorCode::io, file + ": cannot be opened");
  std::vector<std::string> prompts;
  for (std::string line; std::getline(stream, line);) {
    for (std::size_t at = 0; (at = line.find("\\n", at)) != std::string::npos; ++at) {
      line.replace(at, 2, "\n");
    }
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) throw quire::Error(quire::ErrorCode::io, file + ": holds no prompt");
  return prompts;
}

std::vector<std::vector<std::int32_t>> tokenize_prompts(const GenerateOptions& options,
                                                        const LlamaConfig& config) {
  std::vector<std::vector<std::int32_t>> tokens;
  for (const std::string& ids : options.prompt_ids) tokens.push_back(parse_ids(ids));
  if (!tokens.empty()) return tokens;
  const auto prompts =
      options.prompts_file.empty() ? options.prompts : read_prompts(options.prompts_file);
  if (prompts.empty()) {
    throw quire::Error(quire::ErrorCode::invalid_argument,
                       "generate: got no prompt, expected --prompt, --prompts or --prompt-ids");
  }
  if (!has_byte_vocabulary(config)) {
    throw quire::Error(
        quire::ErrorCode::not_implemented,
        fmt::format("generate: got text for a vocabulary of {} tokens, expected --prompt-ids: only "
                    "byte vocabularies are built in",
                    config.vocab_size));
  }
  for (const std::string& prompt : prompts) tokens.push_back(encode_bytes(prompt, config));
  return tokens;
}

}  // namespace tinyllama
