#include "core/find_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>

#include "core/env.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> glob_paths(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  globfree(&found);
  return paths;
}

// Patterns of folders, most specific first.
std::vector<std::string> nvidia_folder_patterns() {
  std::vector<std::string> patterns = {library_folder().string()};
  for (fs::path at = library_folder(); at.has_relative_path(); at = at.parent_path()) {
    if (at.filename() == "site-packages" || at.filename() == "dist-packages") {
      patterns.push_back(at / "nvidia/*/lib");
    }
  }
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const auto prefix = env::get(variable)) {
      patterns.push_back(*prefix + "/lib/python3*/site-packages/nvidia/*/lib");
      patterns.push_back(*prefix + "/lib");
    }
  }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const auto prefix = env::get(variable)) patterns.push_back(*prefix + "/lib64");
  }
  patterns.push_back("/usr/local/cuda*/lib64");
  if (const auto home = env::get("HOME")) {
    patterns.push_back(*home + "/.local/lib/python3*/site-packages/nvidia/*/lib");
  }
  patterns.push_back("/usr/local/lib/python3*/dist-packages/nvidia/*/lib");
  return patterns;
}

std::string path_of(void* handle, const std::string& otherwise) {
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map->l_name[0] == '\0') return otherwise;
  return map->l_name;
}

bool try_file(const std::string& file, const LibrarySearch& search, FoundLibrary& found) {
  const fs::path folder = fs::path(file).parent_path();
  if (!search.companion_prefix.empty() && !folder.empty()) {
    for (const std::string& each : glob_paths(folder / (search.companion_prefix + "*"))) {
      dlopen(each.c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
  }
  found.handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (found.handle == nullptr) {
    const char* reason = dlerror();
    found.tried.push_back(reason != nullptr ? reason : file);
    return false;
  }
  found.path = path_of(found.handle, file);
  return true;
}

}  // namespace

fs::path library_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&find_library), &info) == 0) return {};
  std::error_code error;
  const fs::path path = fs::canonical(info.dli_fname, error);
  return error ? fs::path() : path.parent_path();
}

FoundLibrary find_library(const LibrarySearch& search) {
  FoundLibrary found;
  if (search.env_variable != nullptr) {
    if (const auto path = env::get(search.env_variable); path && !path->empty()) {
      try_file(*path, search, found);
      return found;
    }
  }
  for (const std::string& soname : search.sonames) {
    if (try_file(soname, search, found)) return found;
  }
  if (!search.nvidia_folders) return found;
  for (const std::string& pattern : nvidia_folder_patterns()) {
    found.tried.push_back(pattern);
    for (const std::string& folder : glob_paths(pattern)) {
      for (const std::string& soname : search.sonames) {
        const std::string file = folder + "/" + soname;
        if (fs::exists(file) && try_file(file, search, found)) return found;
      }
    }
  }
  return found;
}

}  // namespace quire
