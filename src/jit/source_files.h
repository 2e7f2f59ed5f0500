// The headers that one kernel is made of.
#pragma once

#include <string_view>
#include <vector>

#include "jit/embedded_sources.h"
#include "jit/kernel_spec.h"

namespace quire::jit {

// Every header that the generated source of `spec` can reach through #include "…", each once. The
// spec's own headers come before embedded ones of the same name. The result refers to `spec`. Names
// that nobody has are left to the compiler to complain about.
std::vector<EmbeddedSource> reachable_sources(const KernelSpec& spec);

}  // namespace quire::jit
