// Appending by slot mapping, to fp8 caches, to MLA caches, and in checked mode.
#include <gtest/gtest.h>

#include <cmath>

#include "jit/scoped_environment.h"
#include "quire/append.h"
#include "support/expect_error.h"
#include "support/quantized.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;

constexpr std::int64_t kPages = 6, kPageSize = 4;
// Rows 1 and 4 are padding.
const std::vector<double> kSlots = {9, -1, 23, 0, -7};

std::vector<double> without_nan(std::vector<double> values) {
  for (double& x : values) x = std::isnan(x) ? 1e30 : x;
  return values;
}

test::Shape pool_shape(KvLayout layout, std::int64_t heads, std::int64_t dim) {
  if (layout == KvLayout::nhd) return {kPages, kPageSize, heads, dim};
  return {kPages, heads, kPageSize, dim};
}

// Where element 0 of (slot, head) lies in a pool.
std::size_t pool_at(KvLayout layout, std::int64_t heads, std::int64_t dim, std::int64_t slot,
                    std::int64_t head) {
  const std::int64_t page = slot / kPageSize, token = slot % kPageSize;
  const std::int64_t row =
      layout == KvLayout::nhd ? slot * heads + head : (page * heads + head) * kPageSize + token;
  return static_cast<std::size_t>(row * dim);
}

class SlotsTest : public testing::TestWithParam<DType> {};

TEST_P(SlotsTest, CopiesToSlots) {
  for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
    for (const DType slot_dtype : {DType::i32, DType::i64}) {
      const TestTensor key = TestTensor::random({6, 2, 12}, GetParam(), 1);  // one row too many
      const TestTensor value = TestTensor::random({6, 2, 8}, GetParam(), 2);
      const TestTensor k_pool = TestTensor::poisoned(pool_shape(layout, 2, 12), GetParam());
      const TestTensor v_pool = TestTensor::poisoned(pool_shape(layout, 2, 8), GetParam());
      std::vector<double> k_ref = k_pool.values(), v_ref = v_pool.values();
      const TestTensor slots = TestTensor::from(kSlots, {5}, slot_dtype);
      append_paged_kv(key, value, AppendRows(slots), {k_pool, v_pool, layout});
      const std::vector<double> k = key.values(), v = value.values();
      for (std::size_t row = 0; row < kSlots.size(); ++row) {
        if (kSlots[row] < 0) continue;
        for (std::size_t head = 0; head < 2; ++head) {
          const auto slot = static_cast<std::int64_t>(kSlots[row]);
          const auto h = static_cast<std::int64_t>(head);
          for (std::size_t d = 0; d < 12; ++d) {
            k_ref[pool_at(layout, 2, 12, slot, h) + d] = k[(row * 2 + head) * 12 + d];
          }
          for (std::size_t d = 0; d < 8; ++d) {
            v_ref[pool_at(layout, 2, 8, slot, h) + d] = v[(row * 2 + head) * 8 + d];
          }
        }
      }
      EXPECT_EQ(without_nan(k_pool.values()), without_nan(k_ref));
      EXPECT_EQ(without_nan(v_pool.values()), without_nan(v_ref));
      EXPECT_TRUE(k_pool.guards_intact() && v_pool.guards_intact());
    }
  }
}

// K with a scale a head from the device, V with one number; other slots stay as they are.
TEST_P(SlotsTest, ConvertsToFp8) {
  for (const DType cache_dtype : {DType::f8e4m3, DType::f8e5m2}) {
    for (const std::int64_t dim : {16, 7}) {
      for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
        const TestTensor key = TestTensor::random({5, 3, dim}, GetParam(), 1, 3);
        const TestTensor value = TestTensor::random({5, 3, dim}, GetParam(), 2, 100);
        const TestTensor k_pool = TestTensor::poisoned(pool_shape(layout, 3, dim), cache_dtype);
        const TestTensor v_pool = TestTensor::poisoned(pool_shape(layout, 3, dim), cache_dtype);
        const std::vector<double> untouched = k_pool.values();
        const std::vector<double> k_scale = {0.5, 0.125, 2};
        const TestTensor k_scales = TestTensor::from(k_scale, {3}, DType::f32);
        append_paged_kv(key, value, AppendRows(TestTensor::from(kSlots, {5}, DType::i64)),
                        {k_pool, v_pool, layout}, {.k = k_scales.view(), .v = 0.1f});
        const std::vector<double> k = key.values(), v = value.values();
        const std::vector<double> k_got = k_pool.values(), v_got = v_pool.values();
        std::size_t written = 0;
        for (std::size_t row = 0; row < kSlots.size(); ++row) {
          if (kSlots[row] < 0) continue;
          for (std::size_t head = 0; head < 3; ++head) {
            const std::size_t at = pool_at(layout, 3, dim, static_cast<std::int64_t>(kSlots[row]),
                                           static_cast<std::int64_t>(head));
            const auto part = [&](const std::vector<double>& all, std::size_t begin) {
              return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                         all.begin() + static_cast<std::ptrdiff_t>(begin + dim));
            };
            const std::size_t from = (row * 3 + head) * static_cast<std::size_t>(dim);
            test::expect_quantized(part(k_got, at), part(k, from), cache_dtype, 1e-6,
                                   [&](std::size_t) { return k_scale[head]; });
            test::expect_quantized(part(v_got, at), part(v, from), cache_dtype, 1e-6,
                                   [&](std::size_t) { return static_cast<double>(0.1f); });
            written += static_cast<std::size_t>(dim);
          }
        }
        std::size_t still_poisoned = 0;
        for (const double x : k_got) still_poisoned += std::isnan(x);
        EXPECT_EQ(still_poisoned, untouched.size() - written);
        EXPECT_TRUE(k_pool.guards_intact() && v_pool.guards_intact());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, SlotsTest, testing::Values(DType::bf16, DType::f16, DType::f32),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(AppendMla, LatentAndRopeParts) {
  for (const DType cache_dtype : {DType::bf16, DType::f8e4m3}) {
    const TestTensor ckv = TestTensor::random({2, 64}, DType::bf16, 1);
    const TestTensor kpe = TestTensor::random({2, 16}, DType::bf16, 2);
    const TestTensor ckv_cache = TestTensor::poisoned({kPages, kPageSize, 64}, cache_dtype);
    const TestTensor kpe_cache = TestTensor::poisoned({kPages, kPageSize, 16}, cache_dtype);
    const TestTensor indptr = TestTensor::ints({0, 2}), indices = TestTensor::ints({5, 1});
    const TestTensor last = TestTensor::ints({2}), requests = TestTensor::ints({0, 0});
    const TestTensor positions = TestTensor::ints({3, 5});
    const AppendRows rows(requests, positions, {indptr, indices, last});
    append_paged_mla(ckv, kpe, rows, ckv_cache, kpe_cache);
    const std::vector<double> got = ckv_cache.values(), got_kpe = kpe_cache.values();
    const std::vector<double> want = ckv.values(), want_kpe = kpe.values();
    const std::size_t slots[] = {5 * 4 + 3, 1 * 4 + 1};
    for (std::size_t row = 0; row < 2; ++row) {
      for (std::size_t d = 0; d < 64; ++d) {
        const double exact = want[row * 64 + d];
        EXPECT_NEAR(got[slots[row] * 64 + d], exact,
                    cache_dtype == DType::bf16 ? 0 : std::abs(exact) / 16 + 0x1p-10);
      }
      for (std::size_t d = 0; d < 16; ++d) {
        const double exact = want_kpe[row * 16 + d];
        EXPECT_NEAR(got_kpe[slots[row] * 16 + d], exact,
                    cache_dtype == DType::bf16 ? 0 : std::abs(exact) / 16 + 0x1p-10);
      }
    }
    EXPECT_TRUE(ckv_cache.guards_intact() && kpe_cache.guards_intact());
  }
}

TEST(AppendSlots, SlotsOutsideAreSkippedOnCudaAndErrorsOnTheCpu) {
  const TestTensor rows = TestTensor::random({3, 2, 8}, DType::bf16, 1);
  const TestTensor pool = TestTensor::poisoned({kPages, kPageSize, 2, 8}, DType::bf16);
  const TestTensor slots = TestTensor::from({24, 1, 1e15}, {3}, DType::i64);
  const auto append = [&] {
    append_paged_kv(rows, rows, AppendRows(slots), {pool, pool, KvLayout::nhd});
  };
  if (test::test_device().is_cpu()) {
    test::expect_errors({{append, ErrorCode::invalid_argument,
                          "append_paged_kv: slot_mapping: got 24 at 0, expected less than the 24 "
                          "slots of the pool"}});
    return;
  }
  {
    const test::ScopedVariable checked("QUIRE_CHECKED", "1");
    const std::vector<std::uint8_t> clean = pool.raw();
    test::expect_errors(
        {{append, ErrorCode::invalid_argument,
          "append_paged_kv: slot_mapping: got row 0, which leads outside the "
          "pages, expected rows that lead to a page of the pool, or are negative"}});
    EXPECT_EQ(pool.raw(), clean);
    append_paged_kv(rows.view().slice(0, 0, 1), rows.view().slice(0, 0, 1),
                    AppendRows(slots.view().slice(0, 1, 2)), {pool, pool, KvLayout::nhd});
  }
  append();
  const std::vector<double> got = pool.values(), row = rows.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (i / 16 == 1) {
      EXPECT_EQ(got[i], row[i]);
    } else {
      EXPECT_TRUE(std::isnan(got[i]));
    }
  }
  EXPECT_TRUE(pool.guards_intact());
}

TEST(AppendSlots, BadInput) {
  const TestTensor rows = TestTensor::random({2, 2, 8}, DType::bf16, 1);
  const TestTensor ints = TestTensor::poisoned({2, 2, 8}, DType::i32);
  const TestTensor pool = TestTensor::poisoned({kPages, kPageSize, 2, 8}, DType::bf16);
  const TestTensor bytes = TestTensor::poisoned({kPages, kPageSize, 2, 8}, DType::f8e4m3);
  const TestTensor other = TestTensor::poisoned({kPages, kPageSize, 2, 8}, DType::f8e5m2);
  const TestTensor slots = TestTensor::ints({0, 1}), three = TestTensor::ints({0, 1, 2});
  const TestTensor scales = TestTensor::from({1, 1, 1}, {3}, DType::f32);
  const TestTensor latent = TestTensor::random({2, 8}, DType::bf16, 2);
  const AppendRows to(slots);
  const std::vector<std::uint8_t> clean = pool.raw(), clean_bytes = bytes.raw();
  using enum ErrorCode;
  const std::string op = "append_paged_kv: ";
  test::expect_errors({
      {[&] { append_paged_kv(rows, rows, AppendRows(three), {pool, pool}); }, invalid_argument,
       op + "slot_mapping: got 3 entries, expected at most 2, the rows of key"},
      {[&] { append_paged_kv(rows, rows, AppendRows(scales), {pool, pool}); }, wrong_type,
       op + "slot_mapping: got f32, expected i32 or i64"},
      {[&] { append_paged_kv(rows, rows, to, {pool, pool}, {.k = 2.f}); }, invalid_argument,
       op + "scales.k: got 2, expected 1 for a cache that is not converted to fp8"},
      {[&] { append_paged_kv(rows, rows, to, {pool, pool}, {.v = scales.view()}); },
       invalid_argument,
       op + "scales.v: got a tensor, expected 1 for a cache that is not converted to fp8"},
      {[&] { append_paged_kv(rows, rows, to, {bytes, bytes}, {.v = scales.view()}); },
       invalid_argument,
       op + "scales.v: got 3 in dimension 0 (shape [3]), expected 2 (num_kv_heads, or 1)"},
      {[&] { append_paged_kv(rows, rows, to, {bytes, bytes}, {.v = Fp8Scale::computed(scales)}); },
       invalid_argument, op + "scales.v: got computed scales, expected given ones"},
      {[&] { append_paged_kv(rows, rows, to, {bytes, bytes}, {.k = 0.f}); }, invalid_argument,
       op + "scales.k: got 0, expected a finite number above 0"},
      {[&] { append_paged_kv(rows, rows, to, {bytes, other}); }, wrong_type,
       op + "cache.v: got f8e5m2, expected f8e4m3"},
      {[&] { append_paged_kv(ints, ints, to, {bytes, bytes}); }, wrong_type,
       op + "cache.k: got f8e4m3, expected i32"},
      {[&] { append_paged_mla(rows, latent, to, pool, pool); }, invalid_argument,
       "append_paged_mla: ckv: got rank 3 (shape [2, 2, 8]), expected rank 2"},
  });
  EXPECT_EQ(pool.raw(), clean);
  EXPECT_EQ(bytes.raw(), clean_bytes);
}

}  // namespace
}  // namespace quire
