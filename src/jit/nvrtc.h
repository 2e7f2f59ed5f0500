// NVRTC, NVIDIA's run-time compiler, by dlopen.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace quire::jit {

using NvrtcProgram = void*;

struct NvrtcTable {
  int (*version)(int* major, int* minor);
  const char* (*get_error_string)(int result);
  int (*create_program)(NvrtcProgram* program, const char* source, const char* name,
                        int num_headers, const char* const* headers,
                        const char* const* include_names);
  int (*destroy_program)(NvrtcProgram* program);
  int (*compile_program)(NvrtcProgram program, int num_options, const char* const* options);
  int (*get_program_log_size)(NvrtcProgram program, std::size_t* size);
  int (*get_program_log)(NvrtcProgram program, char* log);
  int (*get_cubin_size)(NvrtcProgram program, std::size_t* size);
  int (*get_cubin)(NvrtcProgram program, char* cubin);
};

struct Nvrtc {
  NvrtcTable table{};
  std::string path;
  int major = 0, minor = 0;
};

// Loads it at the first call: the file that QUIRE_NVRTC names or else the first that is found.
// Throws Error{compile} that says where it was looked for and how to get it.
const Nvrtc& nvrtc();

// The options of every compilation. Part of the cache key.
std::vector<std::string> nvrtc_options(const std::string& arch);

}  // namespace quire::jit
