// Model directories for tests: a tiny Llama with random weights, whole, sharded or damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace quire::test {

// A new directory that is removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void write_file(const std::filesystem::path& path, const std::string& bytes);
std::string read_file(const std::filesystem::path& path);

nlohmann::json tiny_config();  // 2 layers, 4/2 heads of 16, 264 tokens, tied

// Tensor name -> shape, as LlamaForCausalLM of that configuration has them.
std::map<std::string, std::vector<std::int64_t>> tensor_shapes(const nlohmann::json& config);

// A safetensors file with these tensors, f32 values that depend on the name only.
std::string safetensors_bytes(const std::map<std::string, std::vector<std::int64_t>>& shapes);
// One from a header of any content, for damaged files.
std::string safetensors_bytes(const nlohmann::json& header, std::size_t data_bytes);

void write_tiny_model(const std::filesystem::path& directory);
void write_sharded_tiny_model(const std::filesystem::path& directory);

}  // namespace quire::test
