// What `quire generate` was asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "llama_model.h"

namespace tinyllama {

struct GenerateOptions {
  std::string model;
  std::string prompts_file;
  std::vector<std::string> prompts;
  std::vector<std::string> prompt_ids;  // "1,2,3"
  int max_new_tokens = 64;
  double temperature = 0;
  double top_p = 1;
  std::int64_t seed = 0;
  std::string device = "cpu";
  ComputeType compute_type = ComputeType::automatic;
  ModelLimits limits{.max_batch_tokens = 256, .max_requests = 64, .num_pages = 0, .page_size = 16};
  bool no_sharing = false;
};

// `options` must live as long as the command.
void add_options(CLI::App& command, GenerateOptions& options);

// The token ids of every prompt. Throws quire::Error for a file that is missing or empty, and for
// text when the model's vocabulary is not one of bytes.
std::vector<std::vector<std::int32_t>> tokenize_prompts(const GenerateOptions& options,
                                                        const LlamaConfig& config);

// One prompt a line; backslash n stands for a line break.
std::vector<std::string> read_prompts(const std::string& file);

}  // namespace tinyllama
