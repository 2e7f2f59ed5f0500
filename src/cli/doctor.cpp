// quire doctor: what was found, what is missing and how to get it. Works without a GPU.
#include <fmt/format.h>

#include <string>

#include "cli/commands.h"
#include "cli/doctor_report.h"
#include "cpu/openblas.h"

namespace quire::cli {
namespace {

void doctor_command() {
  DoctorReport report;
  report.found("quire", QUIRE_VERSION);
  if constexpr (QUIRE_WITH_CUDA) {
    report_cuda(report);
  } else {
    report.found("CUDA", "this build is without it (QUIRE_CUDA=OFF)");
  }
  report.look_for_gemm_library("OpenBLAS", [] { cpu::openblas(); });
  if (report.missing.empty()) {
    fmt::print("\nNothing is missing.\n");
    return;
  }
  fmt::print("\nMissing:\n");
  for (const std::string& each : report.missing) fmt::print("- {}\n", each);
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  app.add_subcommand("doctor", "Say what was found on this machine and what is missing")
      ->callback(doctor_command);
}

}  // namespace quire::cli
