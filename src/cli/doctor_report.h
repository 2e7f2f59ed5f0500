// What `quire doctor` collects while it looks around.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "quire/error.h"

namespace quire::cli {

struct DoctorReport {
  std::vector<std::string> missing;  // what, what for and how to get it

  void found(const std::string& name, const std::string& text) {
    fmt::print("{:12} {}\n", name, text);
  }

  // A library that only the matrix product uses; `find` throws when it is not there.
  template <class Find>
  void look_for_gemm_library(const char* name, Find&& find) {
    try {
      find();
      found(name, "found");
    } catch (const Error& error) {
      found(name, "none");
      missing.push_back(fmt::format("{}, for gemm. {}", name, error.what()));
    }
  }
};

// Driver, devices, NVRTC, kernel cache, precompiled set, cuBLASLt. Not in builds without CUDA.
void report_cuda(DoctorReport& report);

}  // namespace quire::cli
