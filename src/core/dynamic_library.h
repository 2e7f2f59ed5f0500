// Libraries found and loaded at run time.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

namespace quire {

// A loaded shared library. Stays loaded until the process ends: code may still be running in it.
class DynamicLibrary {
 public:
  // Loads the first of `candidates` (paths or sonames) that the system can load and that has all
  // of `symbols`; none: the result is empty.
  static DynamicLibrary open_first(const std::vector<std::string>& candidates,
                                   std::initializer_list<const char*> symbols = {});

  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& path() const { return path_; }  // of the file that was loaded

  // Null when the library has no such symbol.
  void* address(const char* symbol) const;
  template <class Function>
  void bind(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

 private:
  void* handle_ = nullptr;
  std::string path_;
};

// The directory of the library that this code is part of; empty when the system does not tell.
std::string directory_of_this_library();

// Where a library of a CUDA installation may be, best first: loaded already by somebody else; the
// system's search path; the wheels of the active or running Python environment
// (site-packages/nvidia/*/lib); CUDA_HOME, CUDA_PATH and the usual place of the toolkit.
// `sonames` are tried in their order in each place: {"libcublasLt.so.13", "libcublasLt.so.12"}.
std::vector<std::string> cuda_library_candidates(const std::vector<std::string>& sonames);

}  // namespace quire
