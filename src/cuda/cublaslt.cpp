#include "cuda/cublaslt.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <string>
#include <vector>

#include "core/dynamic_library.h"
#include "core/env.h"
#include "cuda/driver.h"
#include "cuda/gemm.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

std::atomic<const CublasLtTable*> replacement{nullptr};

// A library of a newer major version than the driver's does not run.
std::vector<std::string> sonames() {
  int driver_version = 0;
  check(driver().driver_get_version(&driver_version), "cuDriverGetVersion");
  std::vector<std::string> result;
  if (driver_version >= 13000) result.emplace_back("libcublasLt.so.13");
  result.emplace_back("libcublasLt.so.12");
  return result;
}

template <class Function>
void bind(const DynamicLibrary& library, Function*& function, const char* symbol) {
  library.bind(function, symbol);
  if (function != nullptr) return;
  throw Error(ErrorCode::device_unavailable,
              fmt::format("gemm: cuBLASLt: got {} without {}, expected version 12 or 13",
                          library.path(), symbol));
}

CublasLtTable load() {
  std::vector<std::string> places;
  if (const auto path = env::get("QUIRE_CUBLASLT")) {
    places = {*path};
  } else {
    places = cuda_library_candidates(sonames());
  }
  const auto library = DynamicLibrary::open_first(places);
  if (!library) {
    throw Error(ErrorCode::device_unavailable,
                fmt::format("gemm: cuBLASLt: got none of {}, expected one of them to load: install "
                            "it (for example the Python package nvidia-cublas) or set "
                            "QUIRE_CUBLASLT to its file",
                            fmt::join(places, ", ")));
  }
  CublasLtTable table{};
  bind(library, table.create, "cublasLtCreate");
  bind(library, table.get_status_string, "cublasLtGetStatusString");
  bind(library, table.matmul_desc_create, "cublasLtMatmulDescCreate");
  bind(library, table.matmul_desc_destroy, "cublasLtMatmulDescDestroy");
  bind(library, table.matmul_desc_set_attribute, "cublasLtMatmulDescSetAttribute");
  bind(library, table.matrix_layout_create, "cublasLtMatrixLayoutCreate");
  bind(library, table.matrix_layout_destroy, "cublasLtMatrixLayoutDestroy");
  bind(library, table.matmul_preference_create, "cublasLtMatmulPreferenceCreate");
  bind(library, table.matmul_preference_destroy, "cublasLtMatmulPreferenceDestroy");
  bind(library, table.matmul_preference_set_attribute, "cublasLtMatmulPreferenceSetAttribute");
  bind(library, table.matmul_algo_get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  bind(library, table.matmul, "cublasLtMatmul");
  return table;
}

}  // namespace

const CublasLtTable& cublaslt_table() {
  if (const CublasLtTable* table = replacement.load()) return *table;
  static const CublasLtTable table = load();  // tried again at the next call when it throws
  return table;
}

void replace_cublaslt_for_testing(const CublasLtTable* table) {
  forget_gemm_plans();
  replacement.store(table);
}

void check_cublaslt(cublaslt::Status status, const char* call) {
  if (status == 0) return;
  throw Error(ErrorCode::driver, fmt::format("gemm: {}: got {} ({}), expected success", call,
                                             cublaslt_table().get_status_string(status), status));
}

}  // namespace quire::cuda
