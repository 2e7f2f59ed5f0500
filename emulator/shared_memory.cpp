#include "emulator/shared_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "emulator/sanitizers.h"

namespace quire::emulator {
namespace {

constexpr std::size_t kAlignmentBytes = 1024;  // as kernels/tile/thread.h says
constexpr std::size_t kGuardBytes = 4096;
constexpr kernels::u8 kGuard = 0xa5;
constexpr kernels::u8 kPoison = 0xff;  // NaN in every floating-point format

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  if (posix_memalign(&data, kAlignmentBytes, bytes + kGuardBytes) != 0) throw std::bad_alloc();
  data_ = static_cast<kernels::u8*>(data);
  std::memset(data_ + bytes_, kGuard, kGuardBytes);
  forbid(data_ + bytes_, kGuardBytes);
  poison();
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

SharedMemory::~SharedMemory() {
  if (data_ == nullptr) return;
  allow(data_ + bytes_, kGuardBytes);
  std::free(data_);
}

void SharedMemory::poison() { std::memset(data_, kPoison, bytes_); }

bool SharedMemory::guard_intact() const {
#if defined(__SANITIZE_ADDRESS__)
  return true;
#else
  for (std::size_t i = 0; i < kGuardBytes; ++i) {
    if (data_[bytes_ + i] != kGuard) return false;
  }
  return true;
#endif
}

}  // namespace quire::emulator
