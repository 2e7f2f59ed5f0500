// Matrix products of a warpgroup. Twin of kernels/tile/wgmma.h: accumulators are NaN from the issue
// of a product until its group is waited for, and shared memory is read at that wait.
#pragma once

#include "tile/convert.h"
#include "tile/mma.h"
#include "tile/warpgroup.h"

namespace quire::tile {

namespace wgmma {

inline void fence(emulator::Site site = emulator::here()) { emulator::fence_products(site); }
inline void commit(emulator::Site site = emulator::here()) { emulator::commit_products(site); }
template <int pending>
inline void wait(emulator::Site site = emulator::here()) {
  static_assert(pending >= 0 && pending <= 7);
#if defined(__SANITIZE_THREAD__)
  // One lane reads for its warp.
  while (lane_index() == 0) {
    const volatile u64* words = emulator::next_product_read(pending);
    if (words == nullptr) break;
    static_cast<void>(words[0]);
    static_cast<void>(words[1]);
  }
#endif
  emulator::wait_for_products(pending, site);
}
template <int n>
inline void pin(float (&)[n]) {}
inline void hold(float nonnegative, emulator::Site site = emulator::here()) {
  if (nonnegative < 0.f) emulator::fail("wgmma::hold of a negative number", site);
}

inline u64 descriptor(const void* smem, int panel_bytes = 0) {
  constexpr u64 kSwizzle128 = 1ull << 62;
  constexpr u64 kEightRows = 1024 >> 4;
  return kSwizzle128 | kEightRows << 32 | static_cast<u64>(panel_bytes >> 4) << 16 |
         ((emulator::shared_address(smem) & 0x3ffff) >> 4);
}
inline u64 advance(u64 descriptor, int bytes) { return descriptor + static_cast<u64>(bytes >> 4); }

template <class T>
inline constexpr emulator::Operand kOperand = emulator::Operand::bf16;
template <>
inline constexpr emulator::Operand kOperand<f16> = emulator::Operand::f16;
template <>
inline constexpr emulator::Operand kOperand<f8e4m3> = emulator::Operand::f8e4m3;

template <int n>
inline void issue(float (&d)[n / 2], const emulator::Product& product, emulator::Site site) {
  static_assert(n % 16 == 0 && n >= 16 && n <= 256);
  emulator::issue_product(product, site);
  for (float& x : d) x = float_from_bits(0xffffffffu);
}

}  // namespace wgmma

template <class T, int n>
struct Wgmma {
  static void ss(float (&d)[n / 2], u64 a, u64 b, bool accumulate,
                 emulator::Site site = emulator::here()) {
    wgmma::issue<n>(d, {d, nullptr, a, b, n, wgmma::kOperand<T>, false, accumulate}, site);
  }
  template <bool transpose_b>
  static void rs(float (&d)[n / 2], const u32 (&a)[4], u64 b, bool accumulate,
                 emulator::Site site = emulator::here()) {
    wgmma::issue<n>(d, {d, a, 0, b, n, wgmma::kOperand<T>, transpose_b, accumulate}, site);
  }
};

template <int n>
struct Wgmma<f8e4m3, n> {
  static void ss(float (&d)[n / 2], u64 a, u64 b, bool accumulate,
                 emulator::Site site = emulator::here()) {
    wgmma::issue<n>(d, {d, nullptr, a, b, n, emulator::Operand::f8e4m3, false, accumulate}, site);
  }
  static void rs(float (&d)[n / 2], const u32 (&a)[4], u64 b, bool accumulate,
                 emulator::Site site = emulator::here()) {
    wgmma::issue<n>(d, {d, a, 0, b, n, emulator::Operand::f8e4m3, false, accumulate}, site);
  }
};

}  // namespace quire::tile
