// quire doctor: what was found, what is missing and how to get it. Works without a GPU.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cpu/openblas.h"
#include "cuda/cublaslt.h"
#include "cuda/driver.h"
#include "jit/cache.h"
#include "jit/compiler.h"
#include "quire/device.h"
#include "quire/error.h"

namespace quire::cli {
namespace {

namespace fs = std::filesystem;

struct Findings {
  std::vector<std::string> missing;
};

void line(const std::string& name, const std::string& text) {
  fmt::print("{:12} {}\n", name, text);
}

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

void report_driver(Findings& findings) {
  try {
    int version = 0;
    cuda::check(cuda::driver().driver_get_version(&version), "cuDriverGetVersion");
    const int count = num_cuda_devices();
    line("driver", fmt::format("CUDA {}.{}, {} device{}", version / 1000, version % 1000 / 10,
                               count, count == 1 ? "" : "s"));
    for (int i = 0; i < count; ++i) {
      const cuda::DeviceLimits& limits = cuda::device_limits(i);
      std::size_t bytes = 0;
      cuda::check(cuda::driver().device_total_mem(&bytes, cuda::device_handle(i)),
                  "cuDeviceTotalMem");
      line(fmt::format("  cuda:{}", i),
           fmt::format("{}, {}, {} multiprocessors, {:.0f} GiB", limits.name, limits.arch(),
                       limits.num_sms, static_cast<double>(bytes) / (1 << 30)));
    }
    if (count == 0) findings.missing.emplace_back("A GPU. The CPU backend works without.");
  } catch (const Error& error) {
    line("driver", "none: operators run on the CPU");
    findings.missing.push_back(fmt::format("The CUDA driver, to run on a GPU. {}", error.what()));
  }
}

void report_compiler(Findings& findings) {
  try {
    line("compiler", jit::compiler_version());
  } catch (const Error& error) {
    line("compiler", "none: only precompiled kernels run");
    findings.missing.push_back(fmt::format("NVRTC, to compile kernels. {}", error.what()));
  }
}

void report_cache(Findings& findings) {
  const fs::path folder = jit::cache_folder();
  if (folder.empty()) {
    line("cache", "none: kernels are compiled in every process");
    findings.missing.emplace_back("A folder for compiled kernels: set QUIRE_CACHE_DIR or HOME.");
    return;
  }
  const FolderContents contents = count_kernels(folder);
  const bool writable = is_writable(folder);
  line("cache", fmt::format("{}: {} kernels, {:.1f} MiB, {}", folder.string(), contents.num_files,
                            contents.mib, writable ? "writable" : "NOT writable"));
  if (!writable) {
    findings.missing.push_back(fmt::format(
        "Permission to write into {}: mend it, or set QUIRE_CACHE_DIR.", folder.string()));
  }
}

void report_precompiled() {
  const fs::path folder = jit::precompiled_folder();
  std::string text;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    text += fmt::format(", {} {} kernels", it->path().filename().string(),
                        count_kernels(it->path()).num_files);
  }
  line("precompiled",
       text.empty() ? "none: kernels are compiled when first used" : folder.string() + text);
}

// A library that only the matrix product uses; `find` throws when it is not there.
template <class Find>
void report_library(const char* name, Findings& findings, Find&& find) {
  try {
    find();
    line(name, "found");
  } catch (const Error& error) {
    line(name, "none");
    findings.missing.push_back(fmt::format("{}, for gemm. {}", name, error.what()));
  }
}

void doctor_command() {
  Findings findings;
  line("quire", QUIRE_VERSION);
  if constexpr (QUIRE_WITH_CUDA) {
    report_driver(findings);
    report_compiler(findings);
    report_cache(findings);
    report_precompiled();
    if (num_cuda_devices() > 0) {
      report_library("cuBLASLt", findings, [] { cuda::cublaslt_table(); });
    }
  } else {
    line("CUDA", "this build is without it (QUIRE_CUDA=OFF)");
  }
  report_library("OpenBLAS", findings, [] { cpu::openblas(); });
  if (findings.missing.empty()) {
    fmt::print("\nNothing is missing.\n");
    return;
  }
  fmt::print("\nMissing:\n");
  for (const std::string& each : findings.missing) fmt::print("- {}\n", each);
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  app.add_subcommand("doctor", "Say what was found on this machine and what is missing")
      ->callback(doctor_command);
}

}  // namespace quire::cli
