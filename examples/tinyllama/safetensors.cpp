#include "safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "mapped_file.h"

namespace tinyllama {

using nlohmann::json;

namespace {

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw quire::Error(quire::ErrorCode::io, where + ": " + what);
}

std::optional<quire::DType> dtype_of(const std::string& name) {
  if (name == "F32") return quire::DType::f32;
  if (name == "F16") return quire::DType::f16;
  if (name == "BF16") return quire::DType::bf16;
  return std::nullopt;
}

// The number of elements, nothing when it is negative or does not fit.
std::optional<std::int64_t> numel(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return std::nullopt;
  }
  return count;
}

// The header's text; checks that the file is long enough for it.
std::string_view header_text(const std::string& file, std::span<const std::byte> bytes) {
  static_assert(std::endian::native == std::endian::little, "the format is little-endian");
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length)) fail(file, "no safetensors file: shorter than 8 bytes");
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length)) {
    fail(file, fmt::format("truncated or no safetensors file: header of {} bytes in a file of {}",
                           length, bytes.size()));
  }
  return {reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length};
}

}  // namespace

SafeTensors::SafeTensors(const std::filesystem::path& directory) {
  const auto index = directory / "model.safetensors.index.json";
  if (std::filesystem::exists(index)) {
    add_shards(index);
  } else {
    add_file(directory / "model.safetensors");
  }
}

SafeTensors::~SafeTensors() = default;

void SafeTensors::add_shards(const std::filesystem::path& index) {
  std::map<std::string, std::string> file_of_tensor;
  try {
    std::ifstream stream(index);
    file_of_tensor = json::parse(stream).at("weight_map").get<decltype(file_of_tensor)>();
  } catch (const json::exception& error) {
    fail(index.string(), error.what());
  }
  std::set<std::string> files;
  for (const auto& [tensor, file] : file_of_tensor) files.insert(file);
  for (const std::string& file : files) {
    if (std::filesystem::path(file).filename() != file) {
      fail(index.string(), fmt::format("'{}' is not a file beside the index", file));
    }
    add_file(index.parent_path() / file);
  }
  for (const auto& [tensor, file] : file_of_tensor) {
    if (!contains(tensor)) fail(index.string(), fmt::format("{} is not in {}", tensor, file));
  }
}

void SafeTensors::add_file(const std::filesystem::path& path) {
  const std::string file = path.string();
  const auto bytes = files_.emplace_back(std::make_unique<MappedFile>(path))->bytes();
  const std::string_view text = header_text(file, bytes);
  const auto data = bytes.subspan(sizeof(std::uint64_t) + text.size());
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  try {
    const json header = json::parse(text);
    for (const auto& [name, fields] : header.items()) {
      if (name == "__metadata__") continue;
      Entry entry{
          .dtype = fields.at("dtype"), .shape = fields.at("shape"), .bytes = {}, .file = file};
      const auto [begin, end] =
          fields.at("data_offsets").get<std::pair<std::uint64_t, std::uint64_t>>();
      if (begin > end || end > data.size()) {
        fail(file, fmt::format("truncated: {} is at bytes {} to {} of {}", name, begin, end,
                               data.size()));
      }
      const auto dtype = dtype_of(entry.dtype);
      const auto count = numel(entry.shape);
      const std::uint64_t size = end - begin, element = dtype ? quire::size_bytes(*dtype) : 1;
      if (!count || (dtype && (size % element != 0 ||
                               size / element != static_cast<std::uint64_t>(*count)))) {
        fail(file,
             fmt::format("{}: {} bytes do not hold {} {}", name, size, entry.dtype, entry.shape));
      }
      entry.bytes = data.subspan(begin, end - begin);
      if (!tensors_.emplace(name, entry).second) fail(file, name + " was in another file already");
      ranges.emplace_back(begin, end);
    }
  } catch (const json::exception& error) {
    fail(file, fmt::format("damaged header: {}", error.what()));
  }
  std::ranges::sort(ranges);
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      fail(file, fmt::format("two tensors share byte {}", ranges[i].first));
    }
  }
}

quire::TensorView SafeTensors::get(const std::string& name,
                                   std::span<const std::int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail("model", fmt::format("tensor {} is missing", name));
  const Entry& entry = found->second;
  if (!std::ranges::equal(entry.shape, shape)) {
    fail(entry.file, fmt::format("{}: got shape {}, expected {}", name, entry.shape, shape));
  }
  const auto dtype = dtype_of(entry.dtype);
  if (!dtype) {
    fail(entry.file, fmt::format("{}: got dtype {}, expected F32, F16 or BF16", name, entry.dtype));
  }
  return quire::TensorView::contiguous(const_cast<std::byte*>(entry.bytes.data()), *dtype, shape);
}

}  // namespace tinyllama
