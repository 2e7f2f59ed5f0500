// The emulator's compiler: the library's generated unit, compiled by g++ against emulator/tile/.
#pragma once

#include <string>

#include "jit/compiler.h"

namespace quire::emulator {

// The image is the path of a shared object below the build folder. Objects are kept there and used
// again as long as unit, included files, flags and compiler are the same; safe with many processes.
// Throws Error{compile}.
// The argument `arch` is not looked at.
jit::CompiledKernel compile_for_host(const jit::KernelSpec& spec, const std::string& arch);

// Compiler, flags, place of the objects and text of emulator/tile/, hashed.
std::string host_compiler_version();

}  // namespace quire::emulator
