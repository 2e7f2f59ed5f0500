#include "jit/cache.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/dynamic_library.h"
#include "core/env.h"
#include "core/log.h"
#include "jit/compiler.h"
#include "jit/hash.h"
#include "jit/kernel_file.h"
#include "jit/nvrtc.h"
#include "jit/source_files.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".cubin";

// Made with mode 0700: what is in it is run on the user's GPU.
void make_cache_folder(const fs::path& folder) {
  std::error_code error;
  if (folder.has_parent_path()) fs::create_directories(folder.parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    throw Error(ErrorCode::io, fmt::format("kernel cache: {}: got \"{}\", expected to create it",
                                           folder.string(), std::strerror(errno)));
  }
}

// sm_80 code runs on every 8.x device.
std::vector<std::string> compatible_archs(const std::string& arch) {
  if (arch.starts_with("sm_8") && arch.size() == 5 && arch != "sm_80") return {arch, "sm_80"};
  return {arch};
}

}  // namespace

std::string precompiled_key(const KernelSpec& spec, const std::string& arch) {
  const std::string source = generate_source(spec);
  const std::vector<std::string> options = nvrtc_options(arch);
  const std::string family = compiler_family();
  std::vector<std::string_view> parts = {family, source};
  parts.insert(parts.end(), options.begin(), options.end());
  for (const EmbeddedSource& each : reachable_sources(spec)) {
    parts.push_back(each.path);
    parts.push_back(each.text);
  }
  return fmt::format("{}-{}-{}", spec.name, arch, hash_hex(parts));
}

std::string cache_key(const KernelSpec& spec, const std::string& arch) {
  const std::string key = precompiled_key(spec, arch);
  const std::string release = compiler_release();
  return fmt::format("{}-{}-{}", spec.name, arch, hash_hex({key, release}));
}

fs::path cache_folder() {
  if (const auto folder = env::get("QUIRE_CACHE_DIR"); folder && !folder->empty()) return *folder;
  if (const auto home = env::get("XDG_CACHE_HOME"); home && !home->empty()) {
    return fs::path(*home) / "quire";
  }
  if (const auto home = env::get("HOME"); home && !home->empty()) {
    return fs::path(*home) / ".cache" / "quire";
  }
  return {};
}

std::optional<std::string> read_cache(const std::string& key) {
  const fs::path folder = cache_folder();
  if (folder.empty()) return std::nullopt;
  auto file = read_kernel_file(folder / (key + kSuffix), key);
  if (!file) return std::nullopt;
  return std::move(file->image);
}

void write_cache(const std::string& key, const std::string& compiler, const std::string& image) {
  const fs::path folder = cache_folder();
  if (folder.empty()) return;
  try {
    make_cache_folder(folder);
    write_kernel_file(folder / (key + kSuffix), {key, compiler, image});
  } catch (const Error& error) {
    log::write(log::Level::error, fmt::format("{}: going on without", error.what()));
  }
}

fs::path precompiled_folder() {
  if (const auto folder = env::get("QUIRE_PRECOMPILED_DIR")) return *folder;
  // lib/libquire.so and lib/<triplet>/libquire.so both belong to the prefix that share/ is in.
  const fs::path library = directory_of_this_library();
  std::error_code error;
  for (const fs::path& prefix : {library.parent_path(), library.parent_path().parent_path()}) {
    const fs::path folder = prefix / "share" / "quire" / "precompiled";
    if (fs::is_directory(folder, error)) return folder;
  }
  return {};
}

std::optional<std::string> read_precompiled(const KernelSpec& spec, const std::string& arch) {
  const fs::path folder = precompiled_folder();
  if (folder.empty()) return std::nullopt;
  for (const std::string& each : compatible_archs(arch)) {
    const std::string key = precompiled_key(spec, each);
    if (auto file = read_kernel_file(folder / each / (key + kSuffix), key)) {
      return std::move(file->image);
    }
  }
  return std::nullopt;
}

}  // namespace quire::jit
