// Where compiled kernels are kept: the precompiled set that comes with the library, and a cache on
// disk. Neither ever fails: trouble is logged and means "not there".
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "jit/kernel_spec.h"

namespace quire::jit {

// Key without the compiler's version: readable prefix + hash of source, headers, options and arch.
// The precompiled set goes by it, so that it serves machines that have no NVRTC.
std::string precompiled_key(const KernelSpec& spec, const std::string& arch);

// QUIRE_CACHE_DIR, else $XDG_CACHE_HOME/quire, else ~/.cache/quire; empty when none is set.
std::filesystem::path cache_folder();
std::optional<std::string> read_cache(const std::string& key);
void write_cache(const std::string& key, const std::string& compiler, const std::string& image);

// QUIRE_PRECOMPILED_DIR, else share/quire/precompiled beside the library's folder or above it;
// empty when there is none. One folder an architecture in it.
std::filesystem::path precompiled_folder();
// Looks for `arch`, then for architectures whose code runs on it too.
std::optional<std::string> read_precompiled(const KernelSpec& spec, const std::string& arch);

}  // namespace quire::jit
