#include "examples/random_model.h"

#include <stdlib.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <stdexcept>

namespace quire::test {

using nlohmann::json;
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "quire_model_XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

json tiny_config() {
  return {{"model_type", "llama"},    {"vocab_size", 264},      {"hidden_size", 64},
          {"intermediate_size", 96},  {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"head_dim", 16},         {"max_position_embeddings", 128},
          {"rope_theta", 10000.0},    {"rms_norm_eps", 1e-5},   {"tie_word_embeddings", true},
          {"bos_token_id", 256},      {"eos_token_id", 257}};
}

Shapes tensor_shapes(const json& config) {
  const std::int64_t hidden = config["hidden_size"], inner = config["intermediate_size"];
  const std::int64_t head_dim = config["head_dim"];
  const std::int64_t q = config["num_attention_heads"].get<std::int64_t>() * head_dim;
  const std::int64_t kv = config["num_key_value_heads"].get<std::int64_t>() * head_dim;
  Shapes shapes{{"model.embed_tokens.weight", {config["vocab_size"], hidden}},
                {"model.norm.weight", {hidden}}};
  for (int i = 0; i < config["num_hidden_layers"]; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    shapes[layer + "input_layernorm.weight"] = {hidden};
    shapes[layer + "post_attention_layernorm.weight"] = {hidden};
    shapes[layer + "self_attn.q_proj.weight"] = {q, hidden};
    shapes[layer + "self_attn.k_proj.weight"] = {kv, hidden};
    shapes[layer + "self_attn.v_proj.weight"] = {kv, hidden};
    shapes[layer + "self_attn.o_proj.weight"] = {hidden, q};
    shapes[layer + "mlp.gate_proj.weight"] = {inner, hidden};
    shapes[layer + "mlp.up_proj.weight"] = {inner, hidden};
    shapes[layer + "mlp.down_proj.weight"] = {hidden, inner};
  }
  return shapes;
}

std::string safetensors_bytes(const Shapes& shapes) {
  json header = json::object();
  std::vector<float> data;
  for (const auto& [name, shape] : shapes) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    const std::size_t begin = data.size() * sizeof(float);
    std::mt19937 engine(static_cast<std::uint32_t>(std::hash<std::string>()(name)));
    std::normal_distribution<float> normal(0.f, 0.2f);
    for (std::int64_t i = 0; i < count; ++i) data.push_back(normal(engine));
    header[name] = {
        {"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data.size() * sizeof(float)}}};
  }
  std::string bytes = safetensors_bytes(header, 0);
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size() * sizeof(float));
  return bytes;
}

std::string safetensors_bytes(const json& header, std::size_t data_bytes) {
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text + std::string(data_bytes, '\0');
}

void write_tiny_model(const std::filesystem::path& directory) {
  write_file(directory / "config.json", tiny_config().dump());
  write_file(directory / "model.safetensors", safetensors_bytes(tensor_shapes(tiny_config())));
}

void write_sharded_tiny_model(const std::filesystem::path& directory) {
  write_file(directory / "config.json", tiny_config().dump());
  json weight_map;
  Shapes shards[2];
  for (const auto& tensor : tensor_shapes(tiny_config())) {
    const int shard = static_cast<int>(weight_map.size()) % 2;
    shards[shard].insert(tensor);
    weight_map[tensor.first] = "shard-" + std::to_string(shard) + ".safetensors";
  }
  for (int i = 0; i < 2; ++i) {
    write_file(directory / ("shard-" + std::to_string(i) + ".safetensors"),
               safetensors_bytes(shards[i]));
  }
  write_file(directory / "model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
}

}  // namespace quire::test
