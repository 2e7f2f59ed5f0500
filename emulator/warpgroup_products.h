// The matrix products of a warpgroup: what its threads have queued, checked to be the same, carried
// out when they wait, on operands as they then are in shared memory.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "emulator/lane.h"

namespace quire::emulator {

constexpr int kProductRows = 64;
constexpr int kMaxColumns = 256;
constexpr int kDepthBytes = 32;  // of a product: 16 or 32 elements

// The operands as bytes, and which 16 of them are where in shared memory.
struct OperandLayout {
  std::size_t begin = 0, leading = 0, stride = 0;  // byte offsets in shared memory
  // The chunk of 16 bytes that begins at byte `byte` of row `row`; `transposed`: rows of k.
  std::size_t chunk_k_major(int row, int byte) const;
  std::size_t chunk_transposed(int k, int column) const;
};
// Empty text, or why the hardware (or the emulator) could not read an operand there.
const char* decode_descriptor(u64 descriptor, bool transposed, int columns, OperandLayout& layout);

struct Operands {
  u8 a[kProductRows][kDepthBytes];
  u8 b[kMaxColumns * kDepthBytes];  // as [n][32 bytes]; transposed: [16][n] of 16 bits
};
// d[64][n] += a b, in f32.
void multiply(Operand type, int n, bool transpose_b, const Operands& operands,
              float (*d)[kMaxColumns]);

class WarpgroupProducts {
 public:
  void clear();
  // Once, by the last thread to come, while the others wait too.
  void run(int first_thread, int pending, Site site);

 private:
  struct Accumulators {
    const float* key = nullptr;  // those of the group's first thread; null: unused
    std::unique_ptr<float[][kMaxColumns]> values;
  };
  void check_same(int first_thread, Site site) const;
  Accumulators& accumulators_of(const float* key);
  void execute(int first_thread, std::size_t index);
  void read_operands(int first_thread, std::size_t index);
  void read_chunk(std::size_t offset, u8* to, const QueuedProduct& entry);
  u64 oldest_fence_ = 0;  // of the threads of the group, as the product that runs was issued
  void hand_back(int first_thread, std::size_t num_covered);

  std::array<Accumulators, 16> accumulators_;
  std::unique_ptr<Operands> operands_;
};

}  // namespace quire::emulator
