#include "llama_config.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace tinyllama {

using nlohmann::json;
using quire::ErrorCode;

namespace {

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what, ErrorCode code) {
  throw quire::Error(code, file.string() + ": " + what);
}

// Members that are null count as missing.
template <class T>
T value_or(const json& object, const char* name, T fallback) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? fallback : found->get<T>();
}

std::vector<std::int32_t> one_or_many(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return {};
  if (found->is_array()) return found->get<std::vector<std::int32_t>>();
  return {found->get<std::int32_t>()};
}

// The rope_scaling of older files and the rope_parameters of newer ones.
quire::RopeOptions rope_options(const json& config, const std::filesystem::path& file) {
  const json empty = json::object();
  const auto member = [&](const char* name) -> const json& {
    const auto found = config.find(name);
    return found == config.end() || found->is_null() ? empty : *found;
  };
  const json& parameters =
      config.contains("rope_parameters") ? member("rope_parameters") : member("rope_scaling");
  quire::RopeOptions rope;
  rope.rope_theta = value_or(parameters, "rope_theta", value_or(config, "rope_theta", 1e4f));
  const auto type = value_or<std::string>(parameters, "rope_type",
                                          value_or<std::string>(parameters, "type", "default"));
  if (type == "linear") {
    rope.rope_scale = parameters.at("factor");
  } else if (type == "llama3") {
    rope.rope_scale = parameters.at("factor");
    rope.llama31 = quire::Llama31Rope{
        .low_freq_factor = parameters.at("low_freq_factor"),
        .high_freq_factor = parameters.at("high_freq_factor"),
        .old_context_len = parameters.at("original_max_position_embeddings"),
    };
  } else if (type != "default") {
    fail(file, fmt::format("rope_type: got {}, expected default, linear or llama3", type),
         ErrorCode::not_implemented);
  }
  return rope;
}

void check_is_llama(const json& config, const std::filesystem::path& file) {
  const auto type = value_or<std::string>(config, "model_type", "llama");
  if (type != "llama") {
    fail(file, fmt::format("model_type: got {}, expected llama", type), ErrorCode::not_implemented);
  }
  const auto act = value_or<std::string>(config, "hidden_act", "silu");
  if (act != "silu") {
    fail(file, fmt::format("hidden_act: got {}, expected silu", act), ErrorCode::not_implemented);
  }
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (value_or(config, bias, false)) {
      fail(file, fmt::format("{}: got true, expected false", bias), ErrorCode::not_implemented);
    }
  }
}

void check_sizes(const LlamaConfig& c, const std::filesystem::path& file) {
  const std::pair<const char*, int> sizes[] = {
      {"vocab_size", c.vocab_size},
      {"hidden_size", c.hidden_size},
      {"intermediate_size", c.intermediate_size},
      {"num_hidden_layers", c.num_layers},
      {"num_attention_heads", c.num_qo_heads},
      {"num_key_value_heads", c.num_kv_heads},
      {"head_dim", c.head_dim},
      {"max_position_embeddings", c.max_positions},
  };
  for (const auto& [name, value] : sizes) {
    if (value < 1) {
      fail(file, fmt::format("{}: got {}, expected at least 1", name, value),
           ErrorCode::invalid_argument);
    }
  }
  if (c.num_qo_heads % c.num_kv_heads != 0) {
    fail(file,
         fmt::format("num_attention_heads: got {}, expected a multiple of {} KV heads",
                     c.num_qo_heads, c.num_kv_heads),
         ErrorCode::invalid_argument);
  }
}

}  // namespace

LlamaConfig read_llama_config(const std::filesystem::path& directory) {
  const auto file = directory / "config.json";
  std::ifstream stream(file);
  if (!stream) fail(file, "cannot be opened", ErrorCode::io);
  try {
    const json config = json::parse(stream);
    check_is_llama(config, file);
    LlamaConfig c;
    c.vocab_size = config.at("vocab_size");
    c.hidden_size = config.at("hidden_size");
    c.intermediate_size = config.at("intermediate_size");
    c.num_layers = config.at("num_hidden_layers");
    c.num_qo_heads = config.at("num_attention_heads");
    c.num_kv_heads = value_or(config, "num_key_value_heads", c.num_qo_heads);
    c.head_dim =
        value_or(config, "head_dim", c.num_qo_heads > 0 ? c.hidden_size / c.num_qo_heads : 0);
    c.max_positions = value_or(config, "max_position_embeddings", 2048);
    c.rms_norm_eps = value_or(config, "rms_norm_eps", 1e-6f);
    c.rope = rope_options(config, file);
    c.tied_embeddings = value_or(config, "tie_word_embeddings", false);
    c.bos_token_id = value_or(config, "bos_token_id", -1);
    c.eos_token_ids = one_or_many(config, "eos_token_id");
    check_sizes(c, file);
    return c;
  } catch (const json::exception& error) {
    fail(file, error.what(), ErrorCode::io);
  }
}

}  // namespace tinyllama
