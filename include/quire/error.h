// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace quire {

enum class ErrorCode {
  invalid_argument,  // a value, shape, stride or range is wrong       (Python: ValueError)
  wrong_type,        // a dtype is wrong                               (Python: TypeError)
  not_implemented,   // valid, but this build, backend or GPU lacks it (Python: NotImplementedError)
  out_of_memory,     // memory, workspace or pages are exhausted       (Python: MemoryError)
  device_unavailable,  // no driver, no such device                      (Python: RuntimeError)
  driver,              // the CUDA driver or a CUDA library failed       (Python: RuntimeError)
  compile,             // NVRTC is missing or rejected a kernel          (Python: RuntimeError)
  io,                  // a file is missing, damaged or cannot be written (Python: RuntimeError)
};

// Thrown by every function of the library. The text reads `op: argument: got X, expected Y`.
// A call that throws has launched nothing and changed nothing.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace quire
