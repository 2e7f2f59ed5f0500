#include "cuda/row_kernel.h"

#include <algorithm>
#include <bit>

#include "cuda/driver.h"

namespace quire::cuda {

int access_bytes(std::initializer_list<const void*> addresses,
                 std::initializer_list<std::int64_t> sizes_bytes) {
  // The lowest bit set in any of them is the largest power of two that divides all.
  std::uint64_t bits = 16;
  for (const void* address : addresses) bits |= reinterpret_cast<std::uintptr_t>(address);
  for (const std::int64_t size : sizes_bytes) bits |= static_cast<std::uint64_t>(size);
  return 1 << std::countr_zero(bits);
}

int access_elems(int most, std::int64_t size, std::initializer_list<AccessedTensor> tensors) {
  const auto allows = [&](const AccessedTensor& t, int elems) {
    const int bytes = std::min(16, elems * t.element_bytes);
    std::uint64_t bits = reinterpret_cast<std::uintptr_t>(t.data);
    for (const std::int64_t stride : t.strides) {
      bits |= static_cast<std::uint64_t>(stride * t.element_bytes);
    }
    return bits % static_cast<unsigned>(bytes) == 0;
  };
  int elems = most;
  while (elems > 1 && (size % elems != 0 ||
                       !std::ranges::all_of(
                           tensors, [&](const AccessedTensor& t) { return allows(t, elems); }))) {
    elems /= 2;
  }
  return elems;
}

int block_threads(std::int64_t num_items) {
  return static_cast<int>(
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(num_items, 32, 256))));
}

unsigned grid_blocks(std::int64_t num_groups, int threads_per_block, int device_index) {
  if (num_groups == 0) return 0;
  constexpr int kThreadsPerSm = 2048;  // of the largest GPUs; more than fit only wait a little
  const std::int64_t resident = static_cast<std::int64_t>(device_limits(device_index).num_sms) *
                                std::max(1, kThreadsPerSm / threads_per_block);
  return static_cast<unsigned>(std::min(num_groups, resident));
}

}  // namespace quire::cuda
