// The dynamic shared memory of one thread block: NaN at first, a guard zone behind its last byte.
#pragma once

#include <cstddef>

#include "dtype.h"

namespace quire::emulator {

class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);
  ~SharedMemory();
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;

  kernels::u8* data() const { return data_; }
  // Fills it with NaN for the next block.
  void poison();
  // Without the address sanitizer, which reports the access itself.
  bool guard_intact() const;

 private:
  kernels::u8* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace quire::emulator
