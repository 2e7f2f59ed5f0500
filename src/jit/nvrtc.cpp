#include "jit/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <mutex>

#include "core/env.h"
#include "core/find_library.h"
#include "core/log.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

constexpr const char* kEnvVariable = "QUIRE_NVRTC";

template <class Entry>
void load_entry(const FoundLibrary& library, const char* symbol, Entry& entry) {
  entry = reinterpret_cast<Entry>(dlsym(library.handle, symbol));
  if (entry == nullptr) {
    throw Error(ErrorCode::compile,
                fmt::format("NVRTC: library: got {} without {}, expected CUDA 12 or later",
                            library.path, symbol));
  }
}

Nvrtc load_nvrtc() {
  const FoundLibrary library = find_library({.env_variable = kEnvVariable,
                                             .sonames = {"libnvrtc.so.13", "libnvrtc.so.12"},
                                             .nvidia_folders = true,
                                             .companion_prefix = "libnvrtc-builtins.so."});
  if (library.handle == nullptr) {
    throw Error(ErrorCode::compile,
                fmt::format("NVRTC: library: got none, expected libnvrtc.so.13 or .12 to compile "
                            "kernels. Install it (pip install nvidia-cuda-nvrtc, or the CUDA "
                            "toolkit) or put its path into {}. Looked for: {}",
                            kEnvVariable, fmt::join(library.tried, "; ")));
  }
  Nvrtc nvrtc{.path = library.path};
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
  return loaded[chosen] = load_nvrtc();
}

std::vector<std::string> nvrtc_options(const std::string& arch) {
  return {"-std=c++20", "-default-device", "-arch=" + arch, "--ptxas-options=-v"};
}

}  // namespace quire::jit
