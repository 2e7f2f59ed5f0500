#include "jit/compiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#include "core/log.h"
#include "jit/cache.h"
#include "jit/nvrtc.h"
#include "jit/resource_report.h"
#include "jit/source_files.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

struct Replacement {
  Compiler compiler;
  std::string version;
};

std::mutex g_replacement_mutex;
std::shared_ptr<const Replacement> g_replacement;

std::shared_ptr<const Replacement> replacement() {
  const std::lock_guard lock(g_replacement_mutex);
  return g_replacement;
}

void check_arch(const std::string& arch) {
  const std::size_t digits = arch.find_first_not_of("0123456789", 3);
  const bool well_formed = arch.starts_with("sm_") && arch.size() >= 5 &&
                           (digits == arch.npos || (digits >= 5 && digits + 1 == arch.size() &&
                                                    (arch.back() == 'a' || arch.back() == 'f')));
  if (!well_formed) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("compile: arch: got \"{}\", expected one like sm_80 or sm_90a", arch));
  }
}

[[noreturn]] void fail(const KernelSpec& spec, const std::string& arch, const char* call,
                       const char* reason, const std::string& log) {
  throw Error(ErrorCode::compile,
              fmt::format("{}: {} for {}: got {}, expected success\n{}\nThe source was:\n{}",
                          spec.name, call, arch, reason, log, generate_source(spec)));
}

// One NVRTC program with its headers.
class Program {
 public:
  Program(const Nvrtc& nvrtc, const KernelSpec& spec) : table_(nvrtc.table) {
    // The interface wants zero-terminated strings, which views are not.
    for (const EmbeddedSource& each : reachable_sources(spec)) {
      names_.emplace_back(each.path);
      texts_.emplace_back(each.text);
    }
    const auto names = pointers(names_), texts = pointers(texts_);
    result_ =
        table_.create_program(&program_, generate_source(spec).c_str(), (spec.name + ".cu").c_str(),
                              static_cast<int>(names.size()), texts.data(), names.data());
  }
  ~Program() {
    if (program_ != nullptr) table_.destroy_program(&program_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // NVRTC's result code; 0 is success.
  int compile(const std::vector<std::string>& options) {
    if (result_ != 0) return result_;
    const auto arguments = pointers(options);
    return result_ = table_.compile_program(program_, static_cast<int>(arguments.size()),
                                            arguments.data());
  }

  std::string log() const { return text(table_.get_program_log_size, table_.get_program_log); }
  std::string cubin() const { return text(table_.get_cubin_size, table_.get_cubin); }

 private:
  static std::vector<const char*> pointers(const std::vector<std::string>& texts) {
    std::vector<const char*> result;
    for (const std::string& each : texts) result.push_back(each.c_str());
    return result;
  }

  template <class GetSize, class Get>
  std::string text(GetSize get_size, Get get) const {
    std::size_t size = 0;
    if (program_ == nullptr || get_size(program_, &size) != 0) return {};
    std::string bytes(size, '\0');
    if (get(program_, bytes.data()) != 0) return {};
    return bytes;
  }

  const NvrtcTable& table_;
  std::vector<std::string> names_, texts_;
  NvrtcProgram program_ = nullptr;
  int result_ = 0;
};

CompiledKernel compile_by_nvrtc(const KernelSpec& spec, const std::string& arch) {
  const Nvrtc& compiler = nvrtc();
  Program program(compiler, spec);
  const int result = program.compile(nvrtc_options(arch));
  CompiledKernel kernel;
  kernel.log = program.log();
  // The log ends with the terminator of a C string.
  while (!kernel.log.empty() && kernel.log.back() == '\0') kernel.log.pop_back();
  if (result != 0) {
    fail(spec, arch, "NVRTC", compiler.table.get_error_string(result), kernel.log);
  }
  kernel.image = program.cubin();
  if (kernel.image.empty()) fail(spec, arch, "NVRTC", "no machine code", kernel.log);
  read_resource_report(kernel.log, kernel);
  return kernel;
}

}  // namespace

void replace_compiler_for_testing(Compiler compiler, std::string version) {
  const std::lock_guard lock(g_replacement_mutex);
  g_replacement.reset();
  if (compiler) {
    g_replacement =
        std::make_shared<const Replacement>(Replacement{std::move(compiler), std::move(version)});
  }
}

std::string compiler_family() {
  const auto replaced = replacement();
  return replaced ? replaced->version : "NVRTC";
}

std::string compiler_release() {
  if (const auto replaced = replacement()) return replaced->version;
  return fmt::format("NVRTC {}.{}", nvrtc().major, nvrtc().minor);
}

std::string compiler_version() {
  if (const auto replaced = replacement()) return replaced->version;
  return fmt::format("{} ({})", compiler_release(), nvrtc().path);
}

CompiledKernel compile(const KernelSpec& spec, const std::string& arch) {
  check_arch(arch);
  const auto start = std::chrono::steady_clock::now();
  const auto replaced = replacement();
  CompiledKernel kernel = replaced ? replaced->compiler(spec, arch) : compile_by_nvrtc(spec, arch);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  log::write(log::Level::info, fmt::format("compiled {}{} for {} in {:.2f} s", spec.name,
                                           spec.config, arch, seconds.count()));
  return kernel;
}

std::string load_or_compile(const KernelSpec& spec, const std::string& arch) {
  check_arch(arch);
  if (auto image = read_precompiled(spec, arch)) return std::move(*image);
  const std::string key = cache_key(spec, arch);
  if (auto image = read_cache(key)) return std::move(*image);
  std::string image = compile(spec, arch).image;
  write_cache(key, compiler_release(), image);
  return image;
}

}  // namespace quire::jit
