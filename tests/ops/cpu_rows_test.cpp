#include "cpu/rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "core/numeric.h"

namespace quire::cpu {
namespace {

using kernels::DType;

TEST(CpuRows, LoadsEveryHalf) {
  std::vector<std::uint16_t> halves(65536);
  for (int i = 0; i < 65536; ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(65536);
  load_row(out.data(), halves.data(), DType::f16, 0, 65536);
  for (int i = 0; i < 65536; ++i) {
    const float expected = numeric::Half::decode(i);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(out[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST(CpuRows, StoresAsNumericDoes) {
  // Floats on both sides of everything that rounding and range depend on, of both signs.
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x80000000u - 65536; bits += 997) {
    values.push_back(std::bit_cast<float>(bits));
    values.push_back(std::bit_cast<float>(bits | 0x80000000u));
  }
  for (int i = 0; i < 0x7c00; ++i) {
    const float low = numeric::Half::decode(i), high = numeric::Half::decode(i + 1);
    const float middle = i + 1 < 0x7c00 ? (low + high) / 2 : 65520.f;
    for (const float x : {low, middle, std::nextafter(middle, 0.f), std::nextafter(middle, 1e9f)}) {
      values.push_back(x);
      values.push_back(-x);
    }
  }
  values.push_back(INFINITY);
  values.push_back(-INFINITY);
  values.push_back(NAN);
  const int n = static_cast<int>(values.size());
  std::vector<std::uint16_t> f16(n), bf16(n);
  store_row(f16.data(), DType::f16, 0, values.data(), n);
  store_row(bf16.data(), DType::bf16, 0, values.data(), n);
  for (int i = 0; i < n; ++i) {
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(numeric::Half::decode(f16[i])));
      EXPECT_TRUE(std::isnan(numeric::bf16_to_float(bf16[i])));
      continue;
    }
    ASSERT_EQ(f16[i], numeric::Half::encode(values[i], false)) << values[i];
    ASSERT_EQ(bf16[i], numeric::float_to_bf16(values[i])) << values[i];
  }
}

TEST(CpuRows, PiecesCoverARowOnce) {
  for (const int size : {0, 1, kRowPiece - 1, kRowPiece, kRowPiece + 1, 3 * kRowPiece}) {
    int next = 0;
    for_each_piece(size, [&](int begin, int n) {
      EXPECT_EQ(begin, next);
      EXPECT_GT(n, 0);
      EXPECT_LE(n, kRowPiece);
      next = begin + n;
    });
    EXPECT_EQ(next, size);
  }
}

}  // namespace
}  // namespace quire::cpu
