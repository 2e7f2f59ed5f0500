// KernelSpec -> machine code, by NVRTC (found with dlopen). The emulator's tests put g++ here.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "jit/kernel_spec.h"

namespace quire::jit {

struct CompiledKernel {
  std::string image;     // cubin bytes (or whatever the replaced compiler's driver loads)
  std::string log;       // compiler's messages
  int registers = -1;    // of the entry function; -1: unknown
  int spill_bytes = -1;  // spill stores + loads
  int local_bytes = -1;  // stack frame
  int static_smem_bytes = -1;
};

// arch: "sm_80", "sm_90a", … Throws Error{compile} with the log, or when NVRTC is not found with
// where it was looked for and how to get it. Does not touch the cache.
CompiledKernel compile(const KernelSpec& spec, const std::string& arch);

// Machine code for `arch` from the precompiled set, disk cache or compile(), in this
// order. Trouble with the cache (damaged, foreign or unwritable files, no space) is logged and
// worked around, never an error.
std::string load_or_compile(const KernelSpec& spec, const std::string& arch);

// Key of a kernel: readable prefix + hash of source, embedded sources, options, arch and compiler.
std::string cache_key(const KernelSpec& spec, const std::string& arch);

// "NVRTC": what all its versions share; known without having it.
std::string compiler_family();
// "NVRTC 13.0"; part of the cache key. Throws Error{compile} when not found.
std::string compiler_release();
// "NVRTC 13.0 (…/libnvrtc.so.13)". Throws likewise.
std::string compiler_version();

using Compiler = std::function<CompiledKernel(const KernelSpec&, const std::string& arch)>;
// Tests only: replaces compile() and what names it. Null puts NVRTC back.
void replace_compiler_for_testing(Compiler compiler, std::string version = "replaced");

}  // namespace quire::jit
