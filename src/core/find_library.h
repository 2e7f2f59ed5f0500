// Finding shared libraries that Quire uses but does not link: NVRTC, cuBLASLt, OpenBLAS.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quire {

struct LibrarySearch {
  const char* env_variable = nullptr;  // holds the path of the file; nothing else is tried then
  std::vector<std::string> sonames;    // in order of preference
  // Also look where CUDA toolkits and NVIDIA's Python packages put their libraries.
  bool nvidia_folders = false;
  // A library that the wanted one loads by bare name: files of its folder that start with this are
  // loaded first, so that they are found wherever they are.
  std::string companion_prefix;
};

struct FoundLibrary {
  void* handle = nullptr;  // of dlopen; null: not found
  std::string path;
  std::vector<std::string> tried;  // where it was looked for, for error texts
};

FoundLibrary find_library(const LibrarySearch& search);

// The folder of libquire itself.
std::filesystem::path library_folder();

}  // namespace quire
