#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "cli/doctor_report.h"
#include "cuda/cublaslt.h"
#include "cuda/driver.h"
#include "jit/cache.h"
#include "jit/compiler.h"
#include "quire/device.h"

namespace quire::cli {
namespace {

namespace fs = std::filesystem;

struct FolderContents {
  std::size_t num_files = 0;
  double mib = 0;
};

FolderContents count_kernels(const fs::path& folder) {
  FolderContents contents;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".cubin") continue;
    ++contents.num_files;
    contents.mib += static_cast<double>(it->file_size(error)) / (1 << 20);
  }
  return contents;
}

// Whether files can be written into `folder`, or it can be made.
bool is_writable(fs::path folder) {
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  return ::access(folder.c_str(), W_OK | X_OK) == 0;
}

void report_driver(DoctorReport& report) {
  try {
    int version = 0;
    cuda::check(cuda::driver().driver_get_version(&version), "cuDriverGetVersion");
    const int count = num_cuda_devices();
    report.found("driver", fmt::format("CUDA {}.{}, {} device{}", version / 1000,
                                       version % 1000 / 10, count, count == 1 ? "" : "s"));
    for (int i = 0; i < count; ++i) {
      const cuda::DeviceLimits& limits = cuda::device_limits(i);
      std::size_t bytes = 0;
      cuda::check(cuda::driver().device_total_mem(&bytes, cuda::device_handle(i)),
                  "cuDeviceTotalMem");
      report.found(fmt::format("  cuda:{}", i),
                   fmt::format("{}, {}, {} multiprocessors, {:.0f} GiB", limits.name, limits.arch(),
                               limits.num_sms, static_cast<double>(bytes) / (1 << 30)));
    }
    if (count == 0) report.missing.emplace_back("A GPU. The CPU backend works without.");
  } catch (const Error& error) {
    report.found("driver", "none: operators run on the CPU");
    report.missing.push_back(fmt::format("The CUDA driver, to run on a GPU. {}", error.what()));
  }
}

void report_compiler(DoctorReport& report) {
  try {
    report.found("compiler", jit::compiler_version());
  } catch (const Error& error) {
    report.found("compiler", "none: only precompiled kernels run");
    report.missing.push_back(fmt::format("NVRTC, to compile kernels. {}", error.what()));
  }
}

void report_cache(DoctorReport& report) {
  const fs::path folder = jit::cache_folder();
  if (folder.empty()) {
    report.found("cache", "none: kernels are compiled in every process");
    report.missing.emplace_back("A folder for compiled kernels: set QUIRE_CACHE_DIR or HOME.");
    return;
  }
  const FolderContents contents = count_kernels(folder);
  const bool writable = is_writable(folder);
  report.found("cache",
               fmt::format("{}: {} kernels, {:.1f} MiB, {}", folder.string(), contents.num_files,
                           contents.mib, writable ? "writable" : "NOT writable"));
  if (!writable) {
    report.missing.push_back(fmt::format(
        "Permission to write into {}: mend it, or set QUIRE_CACHE_DIR.", folder.string()));
  }
}

void report_precompiled(DoctorReport& report) {
  const fs::path folder = jit::precompiled_folder();
  std::string text;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    text += fmt::format(", {} {} kernels", it->path().filename().string(),
                        count_kernels(it->path()).num_files);
  }
  report.found("precompiled", text.empty() ? "none: kernels are compiled when first used"
                                           : folder.string() + text);
}

}  // namespace

void report_cuda(DoctorReport& report) {
  report_driver(report);
  report_compiler(report);
  report_cache(report);
  report_precompiled(report);
  if (num_cuda_devices() == 0) return;
  report.look_for_gemm_library("cuBLASLt", [] { cuda::cublaslt_table(); });
}

}  // namespace quire::cli
