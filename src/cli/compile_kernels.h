// Builds many kernels at once and judges what the compiler made of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "jit/compiler.h"

namespace quire::cli {

struct Build {
  cuda::ListedKernel kernel;
  std::string arch;
  jit::CompiledKernel compiled;
  double seconds = 0;
  std::string problem;  // empty: fine
};

// Bytes of shared memory that one block may use, by CUDA's table of compute capabilities; the
// smallest of them for architectures that are not in it.
int max_smem_bytes(const std::string& arch);

// Whether the kernel is meant for `arch`.
bool is_for(const cuda::ListedKernel& kernel, const std::string& arch);

// "80" of "sm_80", "90" of "sm_90a". Throws invalid_argument for anything else.
int arch_number(const std::string& arch);

// Compiles on `num_jobs` threads. Fills compiled, seconds and problem: the compiler's error,
// spills, local memory, or too much shared memory. `on_done(index)` is called by one thread at a
// time.
void compile_all(std::vector<Build>& builds, int num_jobs,
                 const std::function<void(std::size_t)>& on_done);

}  // namespace quire::cli
