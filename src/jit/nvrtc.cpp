#include "jit/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <map>
#include <mutex>

#include "core/dynamic_library.h"
#include "core/env.h"
#include "core/log.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

constexpr const char* kEnvVariable = "QUIRE_NVRTC";

template <class Entry>
void load_entry(const DynamicLibrary& library, const char* symbol, Entry& entry) {
  library.bind(entry, symbol);
  if (entry == nullptr) {
    throw Error(ErrorCode::compile,
                fmt::format("NVRTC: library: got {} without {}, expected CUDA 12 or later",
                            library.path(), symbol));
  }
}

// NVRTC loads its built-in functions by bare name when it compiles. In a folder that the system
// does not search it finds them only when they are loaded already.
void load_builtins_beside(const std::filesystem::path& nvrtc_path) {
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(nvrtc_path.parent_path(), error)) {
    if (file.path().filename().string().starts_with("libnvrtc-builtins.so.")) {
      dlopen(file.path().c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
  }
}

Nvrtc load_nvrtc(const std::string& chosen) {
  const std::vector<std::string> candidates =
      chosen.empty() ? cuda_library_candidates({"libnvrtc.so.13", "libnvrtc.so.12"})
                     : std::vector{chosen};
  const auto library = DynamicLibrary::open_first(candidates);
  if (!library) {
    throw Error(ErrorCode::compile,
                fmt::format("NVRTC: library: got none of {}, expected one of them to load, to "
                            "compile kernels: install it (for example the Python package "
                            "nvidia-cuda-nvrtc) or set {} to its file",
                            fmt::join(candidates, ", "), kEnvVariable));
  }
  load_builtins_beside(library.path());
  Nvrtc nvrtc{.path = library.path()};
  NvrtcTable& t = nvrtc.table;
  load_entry(library, "nvrtcVersion", t.version);
  load_entry(library, "nvrtcGetErrorString", t.get_error_string);
  load_entry(library, "nvrtcCreateProgram", t.create_program);
  load_entry(library, "nvrtcDestroyProgram", t.destroy_program);
  load_entry(library, "nvrtcCompileProgram", t.compile_program);
  load_entry(library, "nvrtcGetProgramLogSize", t.get_program_log_size);
  load_entry(library, "nvrtcGetProgramLog", t.get_program_log);
  load_entry(library, "nvrtcGetCUBINSize", t.get_cubin_size);
  load_entry(library, "nvrtcGetCUBIN", t.get_cubin);
  t.version(&nvrtc.major, &nvrtc.minor);
  log::write(log::Level::info,
             fmt::format("NVRTC {}.{} from {}", nvrtc.major, nvrtc.minor, nvrtc.path));
  return nvrtc;
}

}  // namespace

const Nvrtc& nvrtc() {
  static std::mutex mutex;
  // By the value of the variable; a failure is not remembered, so that installing it helps.
  static auto& loaded = *new std::map<std::string, Nvrtc>;
  const std::lock_guard lock(mutex);
  const std::string chosen = env::get(kEnvVariable).value_or("");
  if (const auto found = loaded.find(chosen); found != loaded.end()) return found->second;
  return loaded[chosen] = load_nvrtc(chosen);
}

std::vector<std::string> nvrtc_options(const std::string& arch) {
  return {"-std=c++20", "-default-device", "-arch=" + arch, "--ptxas-options=-v"};
}

}  // namespace quire::jit
