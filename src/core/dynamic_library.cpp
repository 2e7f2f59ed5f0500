#include "core/dynamic_library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/env.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

// Files mapped into this process.
std::set<std::string> mapped_files() {
  std::set<std::string> files;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t path = line.find('/');
    if (path != std::string::npos) files.insert(line.substr(path));
  }
  return files;
}

// Subdirectories of `directory` in a fixed order; none when it cannot be read.
std::vector<fs::path> subdirectories(const fs::path& directory) {
  std::vector<fs::path> result;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    result.push_back(it->path());
  }
  std::ranges::sort(result);
  return result;
}

// The site-packages directories of the active environment and of the running interpreter, which has
// mapped its extension modules (and perhaps this library) from there.
std::vector<fs::path> site_packages(const std::set<std::string>& mapped) {
  std::vector<fs::path> result;
  const auto add = [&](const fs::path& path) {
    if (std::ranges::find(result, path) == result.end()) result.push_back(path);
  };
  for (const std::string& file : mapped) {
    for (const char* name : {"/site-packages/", "/dist-packages/"}) {
      const std::size_t at = file.find(name);
      if (at != std::string::npos) add(fs::path(file.substr(0, at)) / (name + 1));
    }
  }
  if (const auto environment = env::get("VIRTUAL_ENV")) {
    for (const fs::path& python : subdirectories(fs::path(*environment) / "lib")) {
      add(python / "site-packages");
    }
  }
  for (fs::path& path : result) path = path.lexically_normal();
  return result;
}

std::string loaded_path(void* handle, const std::string& otherwise) {
  link_map* map = nullptr;
  const bool known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0';
  return known ? map->l_name : otherwise;
}

}  // namespace

DynamicLibrary DynamicLibrary::open_first(const std::vector<std::string>& candidates,
                                          std::initializer_list<const char*> symbols) {
  DynamicLibrary library;
  for (const std::string& candidate : candidates) {
    library.handle_ = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle_ == nullptr) continue;
    const auto has = [&](const char* symbol) { return library.address(symbol) != nullptr; };
    if (std::ranges::all_of(symbols, has)) {
      library.path_ = loaded_path(library.handle_, candidate);
      return library;
    }
  }
  return {};
}

void* DynamicLibrary::address(const char* symbol) const {
  return handle_ == nullptr ? nullptr : dlsym(handle_, symbol);
}

std::string directory_of_this_library() {
  Dl_info info{};
  const auto* here = reinterpret_cast<const void*>(&directory_of_this_library);
  if (dladdr(here, &info) == 0 || info.dli_fname == nullptr) return {};
  // A run path may have led here through "bin/../lib", which hides what is above.
  std::error_code error;
  return fs::canonical(info.dli_fname, error).parent_path().string();
}

std::vector<std::string> cuda_library_candidates(const std::vector<std::string>& sonames) {
  const std::set<std::string> mapped = mapped_files();
  std::vector<std::string> result;
  for (const std::string& soname : sonames) {
    for (const std::string& file : mapped) {
      if (fs::path(file).filename().string().starts_with(soname)) result.push_back(file);
    }
  }
  result.insert(result.end(), sonames.begin(), sonames.end());

  std::vector<fs::path> directories;
  for (const fs::path& packages : site_packages(mapped)) {
    for (const fs::path& wheel : subdirectories(packages / "nvidia")) {
      directories.push_back(wheel / "lib");
    }
  }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const auto home = env::get(variable)) directories.push_back(fs::path(*home) / "lib64");
  }
  directories.emplace_back("/usr/local/cuda/lib64");
  for (const std::string& soname : sonames) {
    for (const fs::path& directory : directories) {
      std::error_code error;
      const fs::path file = directory / soname;
      if (fs::exists(file, error)) result.push_back(file.string());
    }
  }
  return result;
}

}  // namespace quire
