#include "cli/compile_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <mutex>
#include <thread>

#include "quire/error.h"

namespace quire::cli {
namespace {

constexpr int kKib = 1024;

std::string judge(const Build& build) {
  const jit::CompiledKernel& made = build.compiled;
  if (made.registers < 0) return "the compiler reported no resources";
  if (made.spill_bytes > 0) return fmt::format("spills {} bytes", made.spill_bytes);
  if (made.local_bytes > 0) return fmt::format("uses {} bytes of local memory", made.local_bytes);
  const auto smem_bytes =
      static_cast<std::size_t>(made.static_smem_bytes) + build.kernel.spec.dynamic_smem_bytes;
  const int limit = max_smem_bytes(build.arch);
  if (smem_bytes > static_cast<std::size_t>(limit)) {
    return fmt::format("uses {} bytes of shared memory, {} has {}", smem_bytes, build.arch, limit);
  }
  return {};
}

void compile_one(Build& build) {
  const auto start = std::chrono::steady_clock::now();
  try {
    build.compiled = jit::compile(build.kernel.spec, build.arch);
    build.problem = judge(build);
  } catch (const Error& error) {
    build.problem = error.what();
  }
  build.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int arch_number(const std::string& arch) {
  int number = 0;
  const char* end = arch.data() + arch.size();
  if (arch.starts_with("sm_")) {
    const auto [rest, error] = std::from_chars(arch.data() + 3, end, number);
    const bool suffix = rest + 1 == end && (*rest == 'a' || *rest == 'f');
    if (error == std::errc{} && number >= 10 && (rest == end || suffix)) return number;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("compile: --arch: got \"{}\", expected one like sm_80 or sm_90a", arch));
}

int max_smem_bytes(const std::string& arch) {
  switch (arch_number(arch)) {
    case 80:
    case 87:
      return 163 * kKib;
    case 90:
    case 100:
    case 101:
    case 103:
    case 110:
      return 227 * kKib;
    default:
      return 99 * kKib;
  }
}

bool is_for(const cuda::ListedKernel& kernel, const std::string& arch) {
  const auto limit = static_cast<std::size_t>(max_smem_bytes(arch));
  if (kernel.large_smem && kernel.spec.dynamic_smem_bytes > limit) return false;
  return arch_number(arch) >= kernel.min_arch && arch_number(arch) <= kernel.max_arch;
}

void compile_all(std::vector<Build>& builds, int num_jobs,
                 const std::function<void(std::size_t)>& on_done) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    for (std::size_t i = next++; i < builds.size(); i = next++) {
      compile_one(builds[i]);
      const std::lock_guard lock(mutex);
      on_done(i);
    }
  };
  const std::size_t num_threads = std::clamp<std::size_t>(
      static_cast<std::size_t>(std::max(num_jobs, 1)), 1, builds.size() + 1);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < num_threads; ++i) threads.emplace_back(work);
}

}  // namespace quire::cli
