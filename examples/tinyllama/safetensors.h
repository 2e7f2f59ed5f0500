// Reading a directory of safetensors files (https://github.com/huggingface/safetensors).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quire/quire.h"

namespace tinyllama {

class MappedFile;

// One model.safetensors, or the shards that model.safetensors.index.json lists. Files are mapped:
// only the tensors that are read cost memory. Throws quire::Error with code io for a file that is
// missing, truncated or contradicts itself.
class SafeTensors {
 public:
  explicit SafeTensors(const std::filesystem::path& directory);
  ~SafeTensors();

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  // A read-only view of the file's memory. Throws when the tensor is missing, has another shape or
  // a dtype other than f32, f16, bf16.
  quire::TensorView get(const std::string& name, std::span<const std::int64_t> shape) const;

 private:
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
    std::string file;
  };

  void add_file(const std::filesystem::path& path);
  void add_shards(const std::filesystem::path& index);

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, Entry> tensors_;
};

}  // namespace tinyllama
