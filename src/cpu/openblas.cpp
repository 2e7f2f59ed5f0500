#include "cpu/openblas.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <mutex>
#include <string>
#include <vector>

#include "core/dynamic_library.h"
#include "core/env.h"
#include "quire/error.h"

namespace quire::cpu {
namespace {

std::vector<std::string> candidates() {
  if (const auto path = env::get("QUIRE_OPENBLAS")) return {*path};
  std::vector<std::string> result;
  const std::string directory = directory_of_this_library();
  for (const char* soname : {"libopenblas.so.0", "libopenblas.so"}) {
    if (!directory.empty()) result.push_back(directory + "/" + soname);
  }
  result.insert(result.end(), {"libopenblas.so.0", "libopenblas.so"});
  return result;
}

OpenBlas load() {
  const std::vector<std::string> places = candidates();
  const auto library = DynamicLibrary::open_first(places, {"cblas_sgemm", "cblas_sgemv"});
  if (!library) {
    throw Error(ErrorCode::device_unavailable,
                fmt::format("gemm: OpenBLAS: got none of {}, expected one of them to load: install "
                            "OpenBLAS (Debian: libopenblas0) or set QUIRE_OPENBLAS to its file",
                            fmt::join(places, ", ")));
  }
  OpenBlas blas{};
  library.bind(blas.sgemm, "cblas_sgemm");
  library.bind(blas.sgemv, "cblas_sgemv");
  library.bind(blas.set_num_threads, "openblas_set_num_threads");
  library.bind(blas.get_num_threads, "openblas_get_num_threads");
  return blas;
}

struct ThreadsInUse {
  std::mutex mutex;
  int scopes = 0;
  int num_threads_before = 1;
};
ThreadsInUse threads_in_use;

}  // namespace

const OpenBlas& openblas() {
  static const OpenBlas blas = load();  // tried again at the next call when it throws
  return blas;
}

SingleThreadedBlas::SingleThreadedBlas(const OpenBlas& blas) : blas_(blas) {
  if (blas_.set_num_threads == nullptr || blas_.get_num_threads == nullptr) return;
  const std::lock_guard lock(threads_in_use.mutex);
  if (threads_in_use.scopes++ > 0) return;
  threads_in_use.num_threads_before = blas_.get_num_threads();
  blas_.set_num_threads(1);
}

SingleThreadedBlas::~SingleThreadedBlas() {
  if (blas_.set_num_threads == nullptr || blas_.get_num_threads == nullptr) return;
  const std::lock_guard lock(threads_in_use.mutex);
  if (--threads_in_use.scopes == 0) blas_.set_num_threads(threads_in_use.num_threads_before);
}

}  // namespace quire::cpu
