// Warp matrix products and the loads of their fragments. Twin of kernels/tile/mma.h.
#pragma once

#include "tile/convert.h"
#include "tile/cp_async.h"

namespace quire::tile {

// The 16 bytes at every lane's `row`; the lane itself reads them, so that sanitizers see who did.
inline const emulator::Deposit* exchange_rows(const void* row, emulator::Site site) {
  emulator::check_shared(row, 16, "ldmatrix: row", site);
  const auto* words = static_cast<const u32*>(row);
  const emulator::Deposit mine{{words[0], words[1], words[2], words[3]}};
  return emulator::exchange(emulator::Collective::ldmatrix, mine, site);
}

inline void ldmatrix_x4(u32 (&r)[4], const void* row, emulator::Site site = emulator::here()) {
  const emulator::Deposit* rows = exchange_rows(row, site);
  const int lane = lane_index();
  for (int i = 0; i < 4; ++i) r[i] = rows[8 * i + lane / 4].words[lane % 4];
}

inline void ldmatrix_x4_trans(u32 (&r)[4], const void* row,
                              emulator::Site site = emulator::here()) {
  const emulator::Deposit* rows = exchange_rows(row, site);
  const int column = lane_index() / 4, first = 2 * (lane_index() % 4);
  const auto element = [&](int matrix_row) {
    return rows[matrix_row].words[column / 2] >> (16 * (column % 2)) & 0xffffu;
  };
  for (int i = 0; i < 4; ++i) r[i] = element(8 * i + first) | element(8 * i + first + 1) << 16;
}

inline u32 transpose_8x8(u32 x, emulator::Site site = emulator::here()) {
  const emulator::Deposit* all = emulator::exchange(emulator::Collective::movmatrix, {{x}}, site);
  const int row = lane_index() / 4, first = 2 * (lane_index() % 4);
  const auto element = [&](int r) {
    return all[4 * r + row / 2].words[0] >> (16 * (row % 2)) & 0xffffu;
  };
  return element(first) | element(first + 1) << 16;
}

// Every lane writes its own row.
inline void stmatrix_x4(void* row, u32 r0, u32 r1, u32 r2, u32 r3,
                        emulator::Site site = emulator::here()) {
  emulator::require_sm90("stmatrix", site);
  emulator::check_shared(row, 16, "stmatrix: row", site);
  const emulator::Deposit mine{{r0, r1, r2, r3}};
  const emulator::Deposit* all = emulator::exchange(emulator::Collective::stmatrix, mine, site);
  const int matrix = lane_index() / 8, first = lane_index() % 8 * 4;
  auto* words = static_cast<u32*>(row);
  for (int i = 0; i < 4; ++i) words[i] = all[first + i].words[matrix];
  emulator::note_shared_write(row);
}

template <class T>
inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                         emulator::Site site = emulator::here());
template <>
inline void mma_m16n8k16<bf16>(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                               emulator::Site site) {
  emulator::mma_bf16(d, a, b0, b1, site);
}
template <>
inline void mma_m16n8k16<f16>(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                              emulator::Site site) {
  emulator::mma_f16(d, a, b0, b1, site);
}

}  // namespace quire::tile
