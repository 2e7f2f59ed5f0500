// What ptxas says a kernel uses.
#pragma once

#include <string_view>

#include "jit/compiler.h"

namespace quire::jit {

// Fills registers, spills, stack and static shared memory from the output of `ptxas -v`. Functions
// that were not inlined count too: the largest registers and stack, the sum of the spills.
// What the log does not say stays -1.
void read_resource_report(std::string_view log, CompiledKernel& kernel);

}  // namespace quire::jit
