#include "quire/nvfp4_kv.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::Shape;
using test::TestTensor;
using Values = std::vector<double>;

// The formats, from their definition.
double e2m1(int code) {
  const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8) != 0 ? -magnitudes[code & 7] : magnitudes[code & 7];
}

double e4m3(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

// Bytes that look random; scales are no NaN.
Values random_bytes(std::size_t n, unsigned seed, bool scales = false) {
  Values bytes(n);
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 1664525 + 1013904223;
    const unsigned byte = seed >> 24;
    bytes[i] = scales && (byte & 0x7f) == 0x7f ? 0x38 : byte;
  }
  return bytes;
}

double element(const Values& data, const Values& scales, std::size_t i) {
  const int byte = static_cast<int>(data[i / 2]);
  return e2m1(i % 2 == 0 ? byte & 15 : byte >> 4) * e4m3(static_cast<int>(scales[i / 16]));
}

void expect_near(const Values& got, const Values& exact, DType dtype) {
  ASSERT_EQ(got.size(), exact.size());
  const double storing = dtype == DType::f32 ? 0x1p-23 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], exact[i], std::abs(exact[i]) * storing + 0x1p-24) << i;
  }
}

std::vector<std::pair<std::int64_t, std::int64_t>> shapes() {
  std::vector<std::pair<std::int64_t, std::int64_t>> shapes = {{3, 16}, {5, 48}, {2, 128}};
  shapes.push_back(test::is_emulated() ? std::pair{1l, 8208l} : std::pair{100l, 8208l});
  if (!test::is_emulated()) shapes.push_back({40000, 128});
  return shapes;
}

class Nvfp4KvTest : public testing::TestWithParam<DType> {};

TEST_P(Nvfp4KvTest, Dequantize) {
  constexpr float kGlobal = 0.0123f;
  const TestTensor global = TestTensor::from({kGlobal}, {1}, DType::f32);
  for (const auto& [rows, cols] : shapes()) {
    // Aligned as torch allocates, rows with padding, and at odd addresses.
    for (const auto& [before, behind] : {std::pair{0, 0}, {16, 16}, {1, 2}}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols) + " from " +
                   std::to_string(before));
      const auto elements = static_cast<std::size_t>(rows * cols);
      const Values bytes = random_bytes(elements / 2, 1);
      const Values scale_bytes = random_bytes(elements / 16, 2, true);
      const PaddedTensor data(bytes, {rows, cols / 2}, DType::u8, before, behind);
      const PaddedTensor scales(scale_bytes, {rows, cols / 16}, DType::u8, before, behind);
      const PaddedTensor out({}, {rows, cols}, GetParam(), before, behind);
      nvfp4_kv_dequantize(data, scales, Fp8Scale(global.view()), out);
      Values exact(elements);
      for (std::size_t i = 0; i < elements; ++i) {
        exact[i] = element(bytes, scale_bytes, i) * kGlobal;
      }
      expect_near(out.values(), exact, GetParam());
      EXPECT_TRUE(out.padding_intact() && data.unchanged() && scales.unchanged());
    }
  }
}

TEST_P(Nvfp4KvTest, EveryCodeAndScale) {
  Values codes(256), scale_bytes(256 / 16);
  const PaddedTensor out({}, {1, 512}, GetParam(), 0, 0);
  for (int first = 0; first < 256; first += 32) {
    Values scales(32), exact(512);
    for (std::size_t i = 0; i < 32; ++i) scales[i] = static_cast<double>(first) + double(i);
    for (std::size_t i = 0; i < 256; ++i) codes[i] = static_cast<double>((i * 37 + 11) % 256);
    const TestTensor data = TestTensor::from(codes, {1, 256}, DType::u8);
    nvfp4_kv_dequantize(data, TestTensor::from(scales, {1, 32}, DType::u8), 0.5f, out);
    const Values got = out.values();
    for (std::size_t i = 0; i < 512; ++i) {
      if ((static_cast<int>(scales[i / 16]) & 0x7f) == 0x7f) {
        EXPECT_TRUE(std::isnan(got[i])) << i;  // e4m3's NaN
      } else {
        EXPECT_EQ(got[i], element(codes, scales, i) * 0.5) << i;  // exact in every dtype
      }
    }
  }
}

// The distance from the nearest number of a format, whose numbers `value(0 .. last)` ascend.
template <class Value>
double nearest_distance(double x, int last, Value&& value) {
  double best = INFINITY;
  for (int code = 0; code <= last; ++code) best = std::min(best, std::abs(value(code) - x));
  return best;
}

TEST_P(Nvfp4KvTest, Quantize) {
  constexpr double kGlobal = 0.01;
  for (const auto& [rows, cols] : shapes()) {
    for (const auto& [before, behind] : {std::pair{0, 0}, {8, 8}, {1, 2}}) {
      if (rows * cols > 1000000) continue;
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols) + " from " +
                   std::to_string(before));
      const auto elements = static_cast<std::size_t>(rows * cols);
      // Row 0 is zeros but for one block too small for a scale; the last has one too large.
      Values values = test::random_values(elements, 3, 2);
      for (std::size_t i = 0; i < static_cast<std::size_t>(cols); ++i) values[i] = 0;
      values[1] = 1e-5;
      values[elements - 1] = -40000;
      const PaddedTensor input(values, {rows, cols}, GetParam(), before, behind);
      const PaddedTensor data({}, {rows, cols / 2}, DType::u8, before, behind);
      const PaddedTensor scales({}, {rows, cols / 16}, DType::u8, before, behind);
      nvfp4_kv_quantize(input, static_cast<float>(kGlobal), data, scales);
      const Values x = input.values(), bytes = data.values(), scale_bytes = scales.values();
      const double global = static_cast<float>(kGlobal);
      for (std::size_t block = 0; block < elements / 16; ++block) {
        double amax = 0;
        for (std::size_t i = 0; i < 16; ++i) amax = std::max(amax, std::abs(x[block * 16 + i]));
        const double exact = std::min(amax / (6 * global), 448.);
        const double scale = e4m3(static_cast<int>(scale_bytes[block]));
        ASSERT_NEAR(std::abs(scale - exact), nearest_distance(exact, 0x7e, e4m3), exact * 1e-6);
        for (std::size_t i = block * 16; i < block * 16 + 16; ++i) {
          const int byte = static_cast<int>(bytes[i / 2]);
          const double code = e2m1(i % 2 == 0 ? byte & 15 : byte >> 4);
          const double wanted = scale == 0 ? 0 : std::abs(x[i]) / (scale * global);
          const double clamped = std::min(wanted, 6.);
          ASSERT_NEAR(std::abs(std::abs(code) - clamped), nearest_distance(clamped, 7, e2m1), 1e-5)
              << i;
          if (code != 0) {
            ASSERT_EQ(std::signbit(code), std::signbit(x[i])) << i;
          }
        }
      }
      EXPECT_TRUE(data.padding_intact() && scales.padding_intact() && input.unchanged());
    }
  }
}

// Ties go to the even code; the global scale and the block scale are 1.
TEST_P(Nvfp4KvTest, Rounding) {
  const Values x = {6,    0.25,  0.75,  1.25, 1.75, 2.5,    3.5,   5,
                    -5.5, -0.25, -0.75, -2.5, -3.5, 0.3125, 2.625, std::nan("")};
  const Values rounded = {6, 0, 1, 1, 2, 2, 4, 4, -6, -0., -1, -2, -4, 0.5, 3, 6};
  const TestTensor input = TestTensor::from(x, {1, 16}, GetParam());
  const TestTensor data = TestTensor::poisoned({1, 8}, DType::u8);
  const TestTensor scales = TestTensor::poisoned({1, 1}, DType::f8e4m3);
  nvfp4_kv_quantize(input, 1.f, data, scales);
  EXPECT_EQ(scales.values(), Values{1});
  const Values bytes = data.values();
  for (std::size_t i = 0; i < 16; ++i) {
    const int byte = static_cast<int>(bytes[i / 2]);
    EXPECT_EQ(e2m1(i % 2 == 0 ? byte & 15 : byte >> 4), rounded[i]) << x[i];
  }
}

TEST_P(Nvfp4KvTest, Paged) {
  constexpr std::int64_t kPages = 7, kPageSize = 3, kHeads = 2, kDim = 32, kTokens = 8;
  const std::vector<std::int32_t> lens = {7, 0, 3};
  const std::vector<std::vector<int>> tables = {{5, 0, 2}, {99, 99, 99}, {6, -1, 99}};
  for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
    for (const DType index : {DType::i32, DType::i64}) {
      for (const int padding : {0, 1}) {
        const bool nhd = layout == KvLayout::nhd;
        Shape shape = {kPages, nhd ? kPageSize : kHeads, nhd ? kHeads : kPageSize, kDim / 2};
        const auto slots = static_cast<std::size_t>(kPages * kPageSize * kHeads);
        const Values bytes = random_bytes(slots * kDim / 2, 5);
        const Values scale_bytes = random_bytes(slots * kDim / 16, 6, true);
        const PaddedTensor data(bytes, shape, DType::u8, padding, padding);
        shape.back() = kDim / 16;
        const PaddedTensor scales(scale_bytes, shape, DType::u8, padding, padding);
        Values ids;
        for (const auto& table : tables) ids.insert(ids.end(), table.begin(), table.end());
        const TestTensor block_tables = TestTensor::from(ids, {3, 3}, index);
        const PaddedTensor out({}, {3, kTokens, kHeads, kDim}, GetParam(), padding, padding);
        const Values before = out.values();
        nvfp4_kv_dequantize_paged(data, scales, layout, block_tables, TestTensor::ints(lens), 0.25f,
                                  out);
        const Values got = out.values();
        std::size_t i = 0;
        for (std::size_t r = 0; r < 3; ++r) {
          for (std::int64_t t = 0; t < kTokens; ++t) {
            for (std::int64_t h = 0; h < kHeads; ++h) {
              for (std::int64_t d = 0; d < kDim; ++d, ++i) {
                if (t >= lens[r]) {
                  ASSERT_TRUE(std::isnan(got[i]) && std::isnan(before[i])) << i;
                  continue;
                }
                const std::int64_t page = tables[r][static_cast<std::size_t>(t / kPageSize)];
                const std::int64_t slot = t % kPageSize;
                const std::int64_t row = nhd ? (page * kPageSize + slot) * kHeads + h
                                             : (page * kHeads + h) * kPageSize + slot;
                const double exact =
                    element(bytes, scale_bytes, static_cast<std::size_t>(row * kDim + d)) * 0.25;
                ASSERT_NEAR(got[i], exact, std::abs(exact) * 0x1p-8) << i;
              }
            }
          }
        }
        EXPECT_TRUE(out.padding_intact());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, Nvfp4KvTest, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(Nvfp4Kv, GarbageTablesStayInside) {
  if (test::test_device().is_cpu()) return;  // there they are errors: see below
  const TestTensor data = TestTensor::poisoned({2, 4, 1, 8}, DType::u8);
  const TestTensor scales = TestTensor::poisoned({2, 4, 1, 1}, DType::u8);
  const TestTensor out = TestTensor::poisoned({2, 9, 1, 16}, DType::bf16);
  const TestTensor tables = TestTensor::from({2147483647, -5, 2, -2147483648.}, {2, 2}, DType::i32);
  nvfp4_kv_dequantize_paged(data, scales, KvLayout::nhd, tables, TestTensor::ints({2147483647, -3}),
                            1.f, out);
  for (const double x : out.values()) EXPECT_TRUE(std::isnan(x));
  EXPECT_TRUE(out.guards_intact());
}

TEST(Nvfp4Kv, Empty) {
  const TestTensor data = TestTensor::poisoned({0, 8}, DType::u8);
  const TestTensor scales = TestTensor::poisoned({0, 1}, DType::u8);
  const TestTensor wide = TestTensor::poisoned({0, 16}, DType::bf16);
  nvfp4_kv_dequantize(data, scales, 1.f, wide);
  nvfp4_kv_quantize(wide, 1.f, data, scales);
}

TEST(Nvfp4Kv, BadInput) {
  const TestTensor data = TestTensor::bytes(std::vector<std::uint8_t>(64));
  TensorView codes =
      TensorView::contiguous(data.view().data, DType::u8, {4, 16}, data.view().device);
  const TestTensor scales = TestTensor::poisoned({4, 2}, DType::f8e4m3);
  const TestTensor narrow = TestTensor::poisoned({4, 1}, DType::f8e4m3);
  const TestTensor out = TestTensor::poisoned({4, 32}, DType::bf16);
  const TestTensor odd = TestTensor::poisoned({4, 24}, DType::bf16);
  const TestTensor two = TestTensor::poisoned({2}, DType::f32);
  const std::vector<std::uint8_t> clean = out.raw();
  using enum ErrorCode;
  std::vector<test::BadCall> calls = {
      {[&] { nvfp4_kv_dequantize(out, scales, 1.f, out); }, wrong_type,
       "nvfp4_kv_dequantize: data: got bf16, expected u8"},
      {[&] { nvfp4_kv_dequantize(codes, out, 1.f, out); }, wrong_type,
       "nvfp4_kv_dequantize: block_scales: got bf16, expected f8e4m3 or u8"},
      {[&] { nvfp4_kv_dequantize(codes, scales, 1.f, scales); }, wrong_type,
       "nvfp4_kv_dequantize: out: got f8e4m3, expected f32 or f16 or bf16"},
      {[&] { nvfp4_kv_dequantize(codes, narrow, 1.f, out); }, invalid_argument,
       "nvfp4_kv_dequantize: block_scales: got 1 in dimension 1 (shape [4, 1]), expected 2 (blocks "
       "of 16 columns of out)"},
      {[&] { nvfp4_kv_dequantize(codes, scales, 1.f, odd); }, invalid_argument,
       "nvfp4_kv_dequantize: out: got 24 columns, expected a multiple of 16"},
      {[&] { nvfp4_kv_dequantize(codes, scales, two.view(), out); }, invalid_argument,
       "nvfp4_kv_dequantize: global_scale: got 2 elements, expected 1"},
      {[&] { nvfp4_kv_dequantize(codes, scales, Fp8Scale::computed(two.view()), out); },
       invalid_argument,
       "nvfp4_kv_dequantize: global_scale: got computed scales, expected a given one"},
      {[&] { nvfp4_kv_quantize(out, 0.f, codes, scales); }, invalid_argument,
       "nvfp4_kv_quantize: global_scale: got 0, expected a finite number above 0"},
      {[&] { nvfp4_kv_quantize(out, 1.f, codes.slice(0, 0, 3), scales); }, invalid_argument,
       "nvfp4_kv_quantize: data: got 3 in dimension 0 (shape [3, 16]), expected 4 (rows of "
       "input)"}};
  const TestTensor cache = TestTensor::from(Values(64), {2, 2, 2, 8}, DType::u8);
  const TestTensor cache_scales = TestTensor::from(Values(8), {2, 2, 2, 1}, DType::u8);
  const TestTensor wide = TestTensor::poisoned({1, 4, 2, 16}, DType::bf16);
  const TestTensor table = TestTensor::from({0, 2}, {1, 2}, DType::i32);
  const auto paged = [&](const TestTensor& lens, const TestTensor& to) {
    nvfp4_kv_dequantize_paged(cache, cache_scales, KvLayout::nhd, table, lens, 1.f, to);
  };
  const TestTensor three = TestTensor::ints({3}), five = TestTensor::ints({5});
  const TestTensor heads = TestTensor::poisoned({1, 4, 3, 16}, DType::bf16);
  calls.push_back({[&] { paged(three, heads); }, invalid_argument,
                   "nvfp4_kv_dequantize_paged: data: got 2 in dimension 2 (shape [2, 2, 2, 8]), "
                   "expected 3 (heads of out)"});
  if (test::test_device().is_cpu()) {
    calls.push_back({[&] { paged(five, wide); }, invalid_argument,
                     "nvfp4_kv_dequantize_paged: seq_lens: got 5 at 0, expected 0 to 4 tokens, and "
                     "no more than 2 pages hold"});
    calls.push_back({[&] { paged(three, wide); }, invalid_argument,
                     "nvfp4_kv_dequantize_paged: block_tables: got 2 at [0, 1], expected one of 2 "
                     "pages"});
  }
  test::expect_errors(calls);
  EXPECT_EQ(out.raw(), clean);
}

}  // namespace
}  // namespace quire
