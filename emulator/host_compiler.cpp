#include "emulator/host_compiler.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "jit/hash.h"
#include "jit/source_files.h"
#include "quire/error.h"

namespace quire::emulator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFlags =
    "-std=c++20 -shared -fPIC -g1 -fno-strict-aliasing -fvisibility=hidden -fno-gnu-unique "
    "-Wno-unknown-pragmas -include prelude.h";

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The files of emulator/ that a unit can include. They stand before kernels/ on the include path.
std::vector<fs::path> twin_files() {
  const fs::path root = fs::path(QUIRE_EMULATOR_SOURCE_DIR) / "emulator";
  std::vector<fs::path> files = {root / "hooks.h", root / "prelude.h"};
  for (const auto& entry : fs::directory_iterator(root / "tile")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

// What kernel_module.h looks for.
std::string exported_names(const jit::KernelSpec& spec) {
  return fmt::format(
      R"(
#pragma GCC visibility push(default)
extern "C" {{
extern const char quire_kernel_name[] = "{0}";
extern const unsigned quire_kernel_params_bytes = sizeof({1});
extern const int quire_kernel_max_threads = {2};
extern const int quire_kernel_cluster_blocks = {3};
void quire_kernel_entry(const void* params) {{ {0}(*static_cast<const {1}*>(params)); }}
void quire_kernel_clear_padding([[maybe_unused]] void* params) {{
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(static_cast<{1}*>(params));
#endif
}}
}}
#pragma GCC visibility pop
)",
      spec.name, spec.params_type, spec.threads_per_block, spec.cluster_blocks);
}

std::string object_name(const jit::KernelSpec& spec, const std::string& unit) {
  const std::string version = host_compiler_version();
  std::vector<std::string_view> parts = {unit, version};
  for (const jit::EmbeddedSource& source : jit::reachable_sources(spec)) {
    parts.push_back(source.path);
    parts.push_back(source.text);
  }
  return fmt::format("{}-{}", spec.name, jit::hash_hex(parts));
}

// A name that nobody else uses, in this process or another.
std::string unique_name(const std::string& stem) {
  static std::atomic<int> count{0};
  return fmt::format("{}.{}.{}", stem, getpid(), count++);
}

// Others see the old file or the whole new one.
void write_file(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  const fs::path unfinished = unique_name(path.string());
  std::ofstream file(unfinished, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw Error(ErrorCode::io, "emulator: " + path.string() + ": cannot be written");
  fs::rename(unfinished, path);
}

// The unit and the library's copy of every file that it includes, but for those that have a twin.
// They stay beside the object, for the debugger.
fs::path write_sources(const fs::path& folder, const jit::KernelSpec& spec,
                       const std::string& unit) {
  const fs::path twins = fs::path(QUIRE_EMULATOR_SOURCE_DIR) / "emulator";
  for (const jit::EmbeddedSource& source : jit::reachable_sources(spec)) {
    if (!fs::exists(twins / source.path)) write_file(folder / source.path, source.text);
  }
  const fs::path path = folder / (spec.name + ".cpp");
  write_file(path, unit);
  return path;
}

std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

struct Outcome {
  int status;
  std::string output;
};
Outcome run(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "cannot start a process"};
  std::string output;
  std::array<char, 4096> chunk;
  while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), pipe)) {
    output.append(chunk.data(), got);
  }
  return {pclose(pipe), output};
}

}  // namespace

std::string host_compiler_version() {
  static const std::string version = [] {
    std::vector<std::string> parts = {QUIRE_EMULATOR_COMPILER, QUIRE_EMULATOR_FLAGS, kFlags,
                                      QUIRE_EMULATOR_CACHE_DIR};
    for (const fs::path& file : twin_files()) parts.push_back(read_file(file));
    return "emulator " + jit::hash_hex({parts.begin(), parts.end()});
  }();
  return version;
}

jit::CompiledKernel compile_for_host(const jit::KernelSpec& spec, const std::string&) {
  const fs::path root = QUIRE_EMULATOR_SOURCE_DIR, cache = QUIRE_EMULATOR_CACHE_DIR;
  const std::string unit = jit::generate_source(spec) + exported_names(spec);
  const std::string name = object_name(spec, unit);
  const fs::path object = cache / (name + ".so");
  if (fs::exists(object)) return {.image = object.string()};

  const fs::path folder = cache / name;
  const fs::path source = write_sources(folder, spec, unit);
  const fs::path unfinished = unique_name(object.string());
  // Messages name kernel files as the kernels include them.
  const Outcome outcome = run(fmt::format("{} {} {} -fmacro-prefix-map={}/= -I {} -I {} {} -o {}",
                                          QUIRE_EMULATOR_COMPILER, kFlags, QUIRE_EMULATOR_FLAGS,
                                          quoted(folder), quoted(root / "emulator"), quoted(folder),
                                          quoted(source), quoted(unfinished)));
  if (outcome.status != 0) {
    throw Error(ErrorCode::compile, fmt::format("emulator: {}: the host compiler failed:\n{}",
                                                spec.name, outcome.output));
  }
  fs::rename(unfinished, object);
  return {.image = object.string(), .log = outcome.output};
}

}  // namespace quire::emulator
