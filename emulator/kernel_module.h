// Machine code of an emulated kernel: a shared object made by host_compiler.h.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace quire::emulator {

class KernelModule {
 public:
  // `image`: the path of the shared object. Throws Error{driver} when it cannot be loaded.
  explicit KernelModule(const std::string& path);
  ~KernelModule();
  KernelModule(const KernelModule&) = delete;
  KernelModule& operator=(const KernelModule&) = delete;

  // What host_compiler.h appends to the generated unit.
  const std::string& name() const { return name_; }
  void (*entry() const)(const void* params) { return entry_; }
  // The bytes of a parameter struct, zero where it has padding.
  std::vector<unsigned char> params_without_padding(const void* params) const;
  int max_threads() const { return max_threads_; }
  int cluster_blocks() const { return cluster_blocks_; }

 private:
  void* library_ = nullptr;
  std::string name_;
  void (*entry_)(const void* params) = nullptr;
  void (*clear_padding_)(void* params) = nullptr;
  std::size_t params_bytes_ = 0;
  int max_threads_ = 0;
  int cluster_blocks_ = 1;
};

}  // namespace quire::emulator
