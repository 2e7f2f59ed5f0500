#include "emulator/kernel_module.h"

#include <dlfcn.h>

#include "quire/error.h"

namespace quire::emulator {
namespace {

void* symbol(void* library, const std::string& path, const char* name) {
  void* address = dlsym(library, name);
  if (address != nullptr) return address;
  throw Error(ErrorCode::driver, "emulator: " + path + ": got no " + name +
                                     ", expected a kernel compiled for the emulator");
}

}  // namespace

KernelModule::KernelModule(const std::string& path) {
  library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw Error(ErrorCode::driver, std::string("emulator: ") + dlerror());
  name_ = static_cast<const char*>(symbol(library_, path, "quire_kernel_name"));
  entry_ = reinterpret_cast<void (*)(const void*)>(symbol(library_, path, "quire_kernel_entry"));
  clear_padding_ =
      reinterpret_cast<void (*)(void*)>(symbol(library_, path, "quire_kernel_clear_padding"));
  params_bytes_ =
      *static_cast<const unsigned*>(symbol(library_, path, "quire_kernel_params_bytes"));
  max_threads_ = *static_cast<const int*>(symbol(library_, path, "quire_kernel_max_threads"));
  cluster_blocks_ = *static_cast<const int*>(symbol(library_, path, "quire_kernel_cluster_blocks"));
}

// The library stays mapped: a sanitizer's report at the end of the process still names its lines.
KernelModule::~KernelModule() = default;

std::vector<unsigned char> KernelModule::params_without_padding(const void* params) const {
  const auto* bytes = static_cast<const unsigned char*>(params);
  std::vector<unsigned char> copy(bytes, bytes + params_bytes_);
  clear_padding_(copy.data());
  return copy;
}

}  // namespace quire::emulator
