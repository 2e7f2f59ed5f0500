// The file of one compiled kernel, in the disk cache and in the precompiled set: a few lines of
// text (format, key, compiler, size, hash of everything), an empty line, the machine code.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace quire::jit {

struct KernelFile {
  std::string key;
  std::string compiler;  // "NVRTC 13.0"
  std::string image;
};

// Nothing when the file does not exist or is not a whole, undamaged kernel file of `key`; all but
// the first is logged.
std::optional<KernelFile> read_kernel_file(const std::filesystem::path& path,
                                           const std::string& key);

// Writes a temporary file of the same folder, then renames it: readers see the old file or the
// whole new one, however many processes write. Throws Error{io}; leaves no temporary file behind.
void write_kernel_file(const std::filesystem::path& path, const KernelFile& file);

}  // namespace quire::jit
