// quire compile: builds listed kernels without a GPU.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <thread>

#include "cli/commands.h"
#include "cli/compile_kernels.h"
#include "cli/progress_bar.h"
#include "jit/cache.h"
#include "jit/kernel_file.h"
#include "quire/error.h"

namespace quire::cli {
namespace {

struct Options {
  std::vector<std::string> archs;
  std::vector<std::string> ops;
  bool preset = false;
  std::string part;  // "K/N", empty: all
  std::string out;
  int num_jobs = static_cast<int>(std::thread::hardware_concurrency());
};

std::vector<std::string> default_archs() {
  std::vector<std::string> archs;
  for (int i = 0; i < num_cuda_devices(); ++i) {
    const std::string arch = cuda::device_limits(i).arch();
    if (std::ranges::find(archs, arch) == archs.end()) archs.push_back(arch);
  }
  if (archs.empty()) archs = {"sm_80", "sm_90a", "sm_100a", "sm_120a"};
  return archs;
}

bool is_chosen(const cuda::ListedKernel& kernel, const Options& options) {
  if (options.preset && !kernel.preset) return false;
  if (options.ops.empty()) return true;
  return std::ranges::any_of(options.ops, [&](const std::string& op) {
    return kernel.spec.name == op || kernel.spec.header.starts_with(op + "/");
  });
}

std::string known_ops() {
  std::vector<std::string> names;
  for (const cuda::ListedKernel& kernel : cuda::listed_kernels()) {
    names.push_back(kernel.spec.name);
    names.push_back(kernel.spec.header.substr(0, kernel.spec.header.find('/')));
  }
  std::ranges::sort(names);
  const auto repeated = std::ranges::unique(names);
  names.erase(repeated.begin(), repeated.end());
  return fmt::format("{}", fmt::join(names, ", "));
}

// Every `step`-th kernel, from number `first` on.
struct Part {
  std::size_t first = 0, step = 1;
};

Part part_of(const std::string& text) {
  if (text.empty()) return {};
  int number = 0, count = 0;
  char end = 0;
  if (std::sscanf(text.c_str(), "%d/%d%c", &number, &count, &end) != 2 || number < 1 ||
      number > count) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("compile: --part: got \"{}\", expected K/N with 1 <= K <= N", text));
  }
  return {static_cast<std::size_t>(number - 1), static_cast<std::size_t>(count)};
}

std::vector<Build> chosen_builds(const Options& options) {
  std::vector<Build> builds;
  const Part part = part_of(options.part);
  for (const std::string& arch : options.archs) {
    std::size_t index = 0;
    for (cuda::ListedKernel& kernel : cuda::listed_kernels()) {
      if (!is_chosen(kernel, options) || !is_for(kernel, arch)) continue;
      if (index++ % part.step != part.first) continue;
      builds.push_back({.kernel = std::move(kernel), .arch = arch});
    }
  }
  if (builds.empty()) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("compile: --op: got no kernel that fits, expected some of: {}", known_ops()));
  }
  return builds;
}

// Into the set that `--out` names, else into the cache of this user.
void store(const Build& build, const Options& options) {
  const std::string compiler = jit::compiler_release();
  if (options.out.empty()) {
    jit::write_cache(jit::cache_key(build.kernel.spec, build.arch), compiler, build.compiled.image);
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(options.out) / build.arch;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string key = jit::precompiled_key(build.kernel.spec, build.arch);
  jit::write_kernel_file(folder / (key + ".cubin"), {key, compiler, build.compiled.image});
}

void print_table(const std::vector<Build>& builds) {
  fmt::print("{:>5} {:>6} {:>6} {:>7} {:>8} {:>6}  {:8} {}\n", "regs", "spills", "local", "smem",
             "cubin", "time", "arch", "kernel");
  for (const Build& build : builds) {
    const jit::CompiledKernel& made = build.compiled;
    if (made.image.empty()) continue;
    fmt::print("{:5} {:6} {:6} {:7} {:8} {:5.2f}s  {:8} {} {}\n", made.registers, made.spill_bytes,
               made.local_bytes,
               static_cast<std::size_t>(std::max(made.static_smem_bytes, 0)) +
                   build.kernel.spec.dynamic_smem_bytes,
               made.image.size(), build.seconds, build.arch, build.kernel.spec.name,
               build.kernel.spec.config);
  }
  fmt::print("spills, local memory, shared memory (smem) and cubin are in bytes\n");
}

void print_problems(const std::vector<Build>& builds) {
  std::fflush(stdout);  // after the table, also where both go into one file
  for (const Build& build : builds) {
    if (build.problem.empty()) continue;
    fmt::print(stderr, "quire compile: {} {} for {}: {}\n", build.kernel.spec.name,
               build.kernel.spec.config, build.arch, build.problem);
  }
}

void compile_command(const Options& given) {
  Options options = given;
  if (options.archs.empty()) options.archs = default_archs();
  std::vector<Build> builds = chosen_builds(options);
  jit::compiler_version();  // one clear error rather than one a kernel when there is no compiler
  {
    ProgressBar progress(builds.size());
    std::size_t done = 0;
    compile_all(builds, options.num_jobs, [&](std::size_t i) {
      if (builds[i].problem.empty()) store(builds[i], options);
      progress.show(++done, builds[i].arch + " " + builds[i].kernel.spec.name);
    });
  }
  print_table(builds);
  print_problems(builds);
  const auto bad = std::ranges::count_if(builds, [](const Build& b) { return !b.problem.empty(); });
  fmt::print("{} kernels compiled, {} failed\n", builds.size() - static_cast<std::size_t>(bad),
             bad);
  if (bad != 0) throw CLI::RuntimeError(1);
}

}  // namespace

void add_compile_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "compile", "Build kernels with NVRTC; needs no GPU. Fails when one spills or does not fit");
  auto options = std::make_shared<Options>();
  command
      ->add_option("--arch", options->archs,
                   "Targets, e.g. sm_80,sm_90a (default: those of this machine's GPUs, else "
                   "sm_80,sm_90a,sm_100a,sm_120a)")
      ->delimiter(',');
  auto* op = command->add_option("--op", options->ops, "Only these operators or kernels");
  op->delimiter(',');
  auto* preset =
      command->add_flag("--preset", options->preset, "Only the kernels of the precompiled set");
  command->add_flag("--all")
      ->description("Every listed kernel (the default)")
      ->excludes(op)
      ->excludes(preset);
  command->add_option("--part", options->part,
                      "K/N: of these kernels every N-th of a target, from the K-th on");
  command->add_option("--out", options->out,
                      "Write a precompiled set into this folder (default: fill the kernel cache)");
  command->add_option("--jobs", options->num_jobs, "Threads")->check(CLI::PositiveNumber);
  command->callback([options] { compile_command(*options); });
}

}  // namespace quire::cli
