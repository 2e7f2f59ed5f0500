#include "emulator/host_compiler.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

// -O1: half the time of -O2 to compile, and tiny sizes run fast enough.
constexpr const char* kFlags =
    "-std=c++20 -shared -fPIC -O1 -g1 -fno-strict-aliasing -fvisibility=hidden -fno-gnu-unique "
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

// The compiler reads kernels/ itself, so that its messages and the debugger name the real files.
void check_unchanged(const jit::KernelSpec& spec) {
  const fs::path root = fs::path(QUIRE_EMULATOR_SOURCE_DIR) / "kernels";
  for (const jit::EmbeddedSource& source : jit::reachable_sources(spec)) {
    const auto same_name = [&](const jit::VirtualHeader& header) {
      return header.name == source.path;
    };
    if (std::ranges::any_of(spec.extra_headers, same_name)) continue;
    if (read_file(root / source.path) == source.text) continue;
    throw Error(ErrorCode::compile,
                fmt::format("emulator: kernels/{}: got a file that differs from the library's copy "
                            "of it, expected the same: build the library again",
                            source.path));
  }
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
void quire_kernel_entry(const void* params) {{ {0}(*static_cast<const {1}*>(params)); }}
}}
#pragma GCC visibility pop
)",
      spec.name, spec.params_type, spec.threads_per_block);
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

void write_file(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) {
    throw Error(ErrorCode::io, "emulator: " + path.string() + ": cannot be written");
  }
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

// A folder of this process's own, removed at the end.
class Scratch {
 public:
  explicit Scratch(const fs::path& path) : path_(path) { fs::create_directories(path); }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

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
  check_unchanged(spec);

  // The unit and its extra headers stay beside the object, for the debugger.
  const fs::path source = cache / name / (spec.name + ".cpp");
  write_file(source, unit);
  for (const jit::VirtualHeader& header : spec.extra_headers) {
    write_file(cache / name / header.name, header.text);
  }
  const Scratch scratch(cache / fmt::format("{}.{}", name, getpid()));
  const fs::path output = scratch.path() / "kernel.so";
  const Outcome outcome =
      run(fmt::format("{} {} {} -I {} -I {} -I {} {} -o {}", QUIRE_EMULATOR_COMPILER, kFlags,
                      QUIRE_EMULATOR_FLAGS, quoted(cache / name), quoted(root / "emulator"),
                      quoted(root / "kernels"), quoted(source), quoted(output)));
  if (outcome.status != 0) {
    throw Error(ErrorCode::compile, fmt::format("emulator: {}: the host compiler failed:\n{}",
                                                spec.name, outcome.output));
  }
  fs::rename(output, object);  // atomic: another process finds all of it or nothing
  return {.image = object.string(), .log = outcome.output};
}

}  // namespace quire::emulator
