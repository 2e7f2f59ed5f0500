// mma.m16n8k16 of a whole warp, by the fragment layouts of the PTX ISA ("Matrix Fragments for
// mma.m16n8k16 with floating point type"): group g = lane / 4, t = lane % 4.
#include "emulator/block.h"
#include "tile/convert.h"

namespace quire::emulator {
namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;
constexpr int kWordsOfA = 4, kWordsOfB = 2;  // in a deposit: a, b, then d

template <class T>
float element(u32 word, int half) {
  return tile::to_float(T{static_cast<u16>(word >> (16 * half))});
}

template <class T>
void multiply(std::array<Deposit, kWarpLanes>& deposits) {
  float a[kRows][kDepth], b[kColumns][kDepth];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const u32* words = deposits[static_cast<std::size_t>(lane)].words;
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < kWordsOfA; ++i) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = element<T>(words[i], half);
      }
      for (int i = 0; i < kWordsOfB; ++i) {
        b[g][2 * t + 8 * i + half] = element<T>(words[kWordsOfA + i], half);
      }
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    u32* d = deposits[static_cast<std::size_t>(lane)].words + kWordsOfA + kWordsOfB;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = 0;  // of exact products
      for (int k = 0; k < kDepth; ++k) sum += static_cast<double>(a[row][k]) * b[column][k];
      d[i] = tile::float_bits(static_cast<float>(tile::float_from_bits(d[i]) + sum));
    }
  }
}

template <class T>
void multiply_in_warp(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Site site) {
  using tile::float_bits;
  Block& block = Block::instance();
  const Deposit mine{{a[0], a[1], a[2], a[3], b0, b1, float_bits(d[0]), float_bits(d[1]),
                      float_bits(d[2]), float_bits(d[3])}};
  const int lane = block.current().position.thread % kWarpLanes;
  const Deposit* all = block.exchange(Collective::mma, mine, site, &multiply<T>);
  for (int i = 0; i < 4; ++i) {
    d[i] = tile::float_from_bits(all[lane].words[kWordsOfA + kWordsOfB + i]);
  }
}

}  // namespace

void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Site site) {
  multiply_in_warp<tile::bf16>(d, a, b0, b1, site);
}
void mma_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Site site) {
  multiply_in_warp<tile::f16>(d, a, b0, b1, site);
}

}  // namespace quire::emulator
