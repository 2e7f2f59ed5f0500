// The arithmetic of a warpgroup's product. Compiled with optimisation in every build and without
// sanitizers: it touches the emulator's own arrays only, and thousands of products must be fast.
#include <array>

#include "emulator/warpgroup_products.h"
#include "tile/convert.h"

#define QUIRE_PLAIN __attribute__((no_sanitize("address", "undefined")))

namespace quire::emulator {
namespace {

constexpr int kMaxDepth = 32;

// 4 exponent bits with bias 7, 3 mantissa bits, no infinity.
float decode_f8e4m3(int bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return tile::float_from_bits(0x7fc00000u);
  float magnitude = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) * 0x1p-9f;
  for (int i = 1; i < exponent; ++i) magnitude *= 2;
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

const std::array<float, 256>& table_f8e4m3() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (int i = 0; i < 256; ++i) t[static_cast<std::size_t>(i)] = decode_f8e4m3(i);
    return t;
  }();
  return table;
}

QUIRE_PLAIN float element(Operand type, const u8* bytes, int i) {
  if (type == Operand::f8e4m3) return table_f8e4m3()[bytes[i]];
  const auto bits = static_cast<u16>(bytes[2 * i] | bytes[2 * i + 1] << 8);
  if (type == Operand::bf16) return tile::float_from_bits(static_cast<u32>(bits) << 16);
  return tile::to_float(tile::f16{bits});
}

QUIRE_PLAIN void add_products(int n, int depth, const float (*a)[kMaxDepth],
                              const float (*b)[kMaxColumns], float (*d)[kMaxColumns]) {
  for (int row = 0; row < kProductRows; ++row) {
    for (int k = 0; k < depth; ++k) {
      const float factor = a[row][k];
      for (int column = 0; column < n; ++column) d[row][column] += factor * b[k][column];
    }
  }
}

}  // namespace

QUIRE_PLAIN void multiply(Operand type, int n, bool transpose_b, const Operands& operands,
                          float (*d)[kMaxColumns]) {
  const int depth = type == Operand::f8e4m3 ? 32 : 16;
  static float a[kProductRows][kMaxDepth], b[kMaxDepth][kMaxColumns];
  for (int row = 0; row < kProductRows; ++row) {
    for (int k = 0; k < depth; ++k) a[row][k] = element(type, operands.a[row], k);
  }
  for (int k = 0; k < depth; ++k) {
    for (int column = 0; column < n; ++column) {
      const u8* bytes = operands.b + (transpose_b ? k * n * 2 : column * kDepthBytes);
      b[k][column] = element(type, bytes, transpose_b ? column : k);
    }
  }
  add_products(n, depth, a, b, d);
}

}  // namespace quire::emulator
