// config.json of a Llama, as Hugging Face transformers writes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "quire/quire.h"

namespace tinyllama {

struct LlamaConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_layers = 0;
  int num_qo_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int max_positions = 0;
  float rms_norm_eps = 1e-6f;
  quire::RopeOptions rope;
  bool tied_embeddings = false;  // the output projection is the embedding
  std::int32_t bos_token_id = -1;
  std::vector<std::int32_t> eos_token_ids;

  int qkv_size() const { return (num_qo_heads + 2 * num_kv_heads) * head_dim; }
  int attention_size() const { return num_qo_heads * head_dim; }
};

// Throws quire::Error: io for a file that is missing or no JSON, invalid_argument for values that
// make no sense, not_implemented for models that are no plain Llama.
LlamaConfig read_llama_config(const std::filesystem::path& directory);

}  // namespace tinyllama
