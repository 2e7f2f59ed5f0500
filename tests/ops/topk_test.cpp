// Top-k selection against a stable sort.
#include "quire/topk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

const double kInf = INFINITY;
constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16};

// Multiples of 1/8 up to `range` standard deviations: with ties, and every dtype has them.
std::vector<double> random_rows(std::int64_t count, std::uint64_t seed, double deviation) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> result;
  for (std::int64_t i = 0; i < count; ++i) {
    result.push_back(std::round(8 * deviation * normal(engine)) / 8);
    if (engine() % 50 == 0) result.back() = -kInf;
  }
  return result;
}

struct Window {
  int start, length;
};

// The window's indices, best first.
std::vector<int> reference_order(const std::vector<double>& values, std::int64_t row_begin,
                                 Window window, TieBreak tie_break) {
  std::vector<int> order(static_cast<std::size_t>(window.length));
  std::iota(order.begin(), order.end(), 0);
  if (tie_break == TieBreak::highest_index) std::ranges::reverse(order);
  const auto value = [&](int i) { return values[row_begin + window.start + i]; };
  std::ranges::stable_sort(order, [&](int a, int b) {
    if (std::isnan(value(a)) || std::isnan(value(b)))
      return std::isnan(value(a)) > std::isnan(value(b));
    return value(a) > value(b);
  });
  return order;
}

void check_top_k(int rows, int len, int k, DType dtype, TieBreak tie_break, double deviation,
                 std::int64_t padding) {
  SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(len) + " k " + std::to_string(k) +
               " " + std::string(name(dtype)));
  const std::vector<double> flat =
      random_rows(static_cast<std::int64_t>(rows) * len, static_cast<unsigned>(len + k), deviation);
  const PaddedTensor input(flat, {rows, len}, dtype, padding, padding);
  const auto values = TestTensor::poisoned({rows, k}, dtype);
  const auto indices = TestTensor::poisoned({rows, k}, DType::i32);
  top_k(input, values.view(), indices.view(), {.tie_break = tie_break});
  synchronize(test::test_device());
  std::vector<double> expected_values, expected_indices;
  for (int r = 0; r < rows; ++r) {
    const std::int64_t begin = static_cast<std::int64_t>(r) * len;
    const std::vector<int> order = reference_order(flat, begin, {0, len}, tie_break);
    for (int j = 0; j < k; ++j) {
      const bool exists = j < len;
      expected_indices.push_back(exists ? order[j] : -1);
      expected_values.push_back(exists ? flat[begin + order[j]] : -kInf);
    }
  }
  EXPECT_EQ(values.values(), expected_values);
  EXPECT_EQ(indices.values(), expected_indices);
  EXPECT_TRUE(values.guards_intact() && indices.guards_intact() && input.unchanged());
}

TEST(TopK, MatchesAStableSort) {
  for (const DType dtype : kDTypes) {
    for (const TieBreak tie_break : {TieBreak::lowest_index, TieBreak::highest_index}) {
      check_top_k(3, 1, 1, dtype, tie_break, 1, 0);
      check_top_k(2, 37, 5, dtype, tie_break, 0.2, 1);
      check_top_k(2, 64, 100, dtype, tie_break, 1, 0);
      check_top_k(2, 2048, 256, dtype, tie_break, 2, 8);
    }
    check_top_k(2, 3000, 2048, dtype, TieBreak::lowest_index, 3, 0);
  }
  // More equal elements at the boundary than the list holds.
  check_top_k(1, 5000, 700, DType::f32, TieBreak::lowest_index, 0.05, 0);
  check_top_k(1, 5000, 700, DType::f32, TieBreak::highest_index, 0.05, 0);
  check_top_k(1, 5003, 2048, DType::bf16, TieBreak::highest_index, 0, 1);
}

TEST(TopK, RowsOfManyBlocks) {
  check_top_k(1, 16400, 300, DType::f32, TieBreak::lowest_index, 3, 0);
  check_top_k(1, 16401, 2048, DType::bf16, TieBreak::highest_index, 0.1, 1);
  if (test::is_emulated()) {
    // Too long for shared memory there, and with clusters not.
    check_top_k(1, 40008, 50, DType::f16, TieBreak::lowest_index, 3, 0);
    if (test::wants_hopper()) check_top_k(1, 450000, 9, DType::f32, TieBreak::lowest_index, 3, 0);
    return;
  }
  check_top_k(4, 128256, 2048, DType::f32, TieBreak::lowest_index, 3, 0);
  check_top_k(2, 200000, 1024, DType::bf16, TieBreak::highest_index, 3, 0);
  check_top_k(2, 524288, 2048, DType::f32, TieBreak::lowest_index, 300, 0);
  check_top_k(2, 524288, 256, DType::bf16, TieBreak::lowest_index, 0.01, 0);
}

// What a sample of the row says about its largest elements is true for few of these.
TEST(TopK, RowsInAnyOrder) {
  const int len = test::is_emulated() ? 20000 : 131072;
  for (const int k : {40, 1000}) {
    std::vector<double> flat;
    for (int i = 0; i < len; ++i) flat.push_back(i);
    for (int i = 0; i < len; ++i) flat.push_back(-i);
    for (int i = 0; i < len; ++i) flat.push_back(i % 3 == 0 ? -kInf : i / 1000 % 7);
    for (int i = 0; i < len; ++i) flat.push_back(i % 2000 == 7 ? i : -kInf);
    const auto input = TestTensor::from(flat, {4, len}, DType::f32);
    const auto indices = TestTensor::poisoned({4, k}, DType::i32);
    top_k(input, std::nullopt, indices.view());
    synchronize(test::test_device());
    const std::vector<double> got = indices.values();
    for (int r = 0; r < 4; ++r) {
      const std::vector<int> order = reference_order(flat, static_cast<std::int64_t>(r) * len,
                                                     {0, len}, TieBreak::lowest_index);
      for (int j = 0; j < k; ++j) ASSERT_EQ(got[r * k + j], order[j]) << r << " " << j;
    }
  }
}

TEST(TopK, SpecialValues) {
  const double nan = std::nan("");
  const auto input =
      TestTensor::from({-0.0, 0, 1e-45, -kInf, kInf, nan, -nan, -1}, {1, 8}, DType::f32);
  const auto values = TestTensor::poisoned({1, 8}, DType::f32);
  const auto indices = TestTensor::poisoned({1, 8}, DType::i32);
  top_k(input, values.view(), indices.view());
  synchronize(test::test_device());
  EXPECT_EQ(indices.values(), (std::vector<double>{5, 6, 4, 2, 0, 1, 7, 3}));
  const std::vector<double> got = values.values();
  EXPECT_TRUE(std::isnan(got[0]) && std::isnan(got[1]));
  EXPECT_EQ(got[2], kInf);
  EXPECT_EQ(got[7], -kInf);
}

struct Windows {
  std::vector<double> starts, lengths;
  std::vector<Window> windows;  // cut to the row
};

Windows some_windows(int rows, int len) {
  Windows w;
  const Window all[] = {{0, len}, {3, 5}, {len - 2, 9}, {1, len / 2}, {0, 0}, {len, 4}};
  for (int r = 0; r < rows; ++r) {
    const Window x = all[r % 6];
    w.starts.push_back(x.start);
    w.lengths.push_back(x.length);
    w.windows.push_back({x.start, std::clamp(x.length, 0, len - x.start)});
  }
  return w;
}

void check_transforms(int rows, int len, int k, DType dtype, int page_size, bool shared_start) {
  SCOPED_TRACE(std::to_string(len) + " page size " + std::to_string(page_size));
  const Windows w = some_windows(rows, len);
  const std::vector<double> flat =
      random_rows(static_cast<std::int64_t>(rows) * len, static_cast<unsigned>(len), 1);
  const auto input = TestTensor::from(flat, {rows, len}, dtype);
  const auto starts = TestTensor::from(w.starts, {rows}, DType::i32);
  const auto lengths = TestTensor::from(w.lengths, {rows}, DType::i32);
  const int batch = 2, columns = 2 * len;
  std::vector<double> table_values, batches, table_starts, offsets;
  for (int i = 0; i < batch * columns; ++i) table_values.push_back(7 * i % 1000);
  for (int r = 0; r < rows; ++r) {
    batches.push_back(r % batch);
    table_starts.push_back(shared_start ? w.starts[r] : r);
    offsets.push_back(1000 * r);
  }
  const auto table = TestTensor::from(table_values, {batch, columns}, DType::i32);
  const auto row_to_batch = TestTensor::from(batches, {rows}, DType::i32);
  const auto table_row_starts = TestTensor::from(table_starts, {rows}, DType::i32);
  const auto offset = TestTensor::from(offsets, {rows}, DType::i32);
  const auto paged = TestTensor::poisoned({rows, k}, DType::i32);
  const auto ragged = TestTensor::poisoned({rows, k}, DType::i32);
  const auto raw = TestTensor::poisoned({rows, k}, DType::i32);
  const TopKOptions options{.row_starts = starts.view(), .lengths = lengths.view()};
  TopKPageTable pages{.table = table, .row_to_batch = row_to_batch.view(), .page_size = page_size};
  if (!shared_start) pages.row_starts = table_row_starts.view();
  top_k_page_table_transform(input, pages, paged, options, raw.view());
  top_k_ragged_transform(input, offset, ragged, options);
  synchronize(test::test_device());
  std::vector<double> expected_paged, expected_ragged, expected_raw;
  for (int r = 0; r < rows; ++r) {
    std::vector<int> order = reference_order(flat, static_cast<std::int64_t>(r) * len, w.windows[r],
                                             TieBreak::lowest_index);
    order.resize(std::min<std::size_t>(order.size(), static_cast<std::size_t>(k)));
    std::ranges::sort(order);
    for (int j = 0; j < k; ++j) {
      const bool exists = static_cast<std::size_t>(j) < order.size();
      const int index = exists ? order[j] : -1;
      expected_raw.push_back(index);
      expected_ragged.push_back(exists ? 1000 * r + index : -1);
      const int column = static_cast<int>(table_starts[r]) + index / page_size;
      expected_paged.push_back(
          exists ? table_values[r % batch * columns + column] * page_size + index % page_size : -1);
    }
  }
  EXPECT_EQ(raw.values(), expected_raw);
  EXPECT_EQ(ragged.values(), expected_ragged);
  EXPECT_EQ(paged.values(), expected_paged);
  EXPECT_TRUE(raw.guards_intact() && ragged.guards_intact() && paged.guards_intact());
}

TEST(TopK, TransformsOfWindows) {
  check_transforms(6, 40, 8, DType::f32, 1, true);
  check_transforms(6, 40, 8, DType::f16, 4, false);
  check_transforms(6, 300, 64, DType::bf16, 16, false);
  check_transforms(2, 16500, 100, DType::f32, 1, true);
}

TEST(TopK, LengthsOfRequestsWithDrafts) {
  constexpr int kLen = 40, kK = 6, kRequests = 4;
  for (const int next_n : {1, 3}) {
    for (const int ratio : {1, 4}) {
      const int rows = kRequests * next_n;
      const std::vector<double> flat = random_rows(rows * kLen, 9, 1);
      const std::vector<std::int32_t> lengths = {9, 1, 500, 37};
      const auto input = TestTensor::from(flat, {rows, kLen}, DType::f32);
      const auto out = TestTensor::poisoned({rows, kK}, DType::i32);
      const auto given = TestTensor::ints(lengths);
      top_k(input, {}, out.view(),
            {.lengths = given.view(), .next_n = next_n, .compress_ratio = ratio});
      std::vector<double> expected;
      for (int r = 0; r < rows; ++r) {
        const int tokens = lengths[static_cast<std::size_t>(r / next_n)] - next_n + r % next_n + 1;
        const int length =
            std::clamp(static_cast<int>(std::floor(static_cast<double>(tokens) / ratio)), 0, kLen);
        const std::vector<int> order =
            reference_order(flat, r * kLen, {0, length}, TieBreak::lowest_index);
        for (int j = 0; j < kK; ++j) expected.push_back(j < length ? order[std::size_t(j)] : -1);
      }
      EXPECT_EQ(out.values(), expected) << next_n << " " << ratio;
    }
  }
}

TEST(TopK, IndicesOutsideTheTableGiveMinusOne) {
  const auto input = TestTensor::from({1, 2, 3, 4, 4, 3, 2, 1}, {2, 4}, DType::f32);
  const auto table = TestTensor::from({10, 11, 12}, {1, 3}, DType::i32);
  const auto batches = TestTensor::ints({0, 1});
  const auto out = TestTensor::poisoned({2, 2}, DType::i32);
  top_k_page_table_transform(input, {.table = table, .row_to_batch = batches.view()}, out);
  synchronize(test::test_device());
  EXPECT_EQ(out.values(), (std::vector<double>{12, -1, -1, -1}));
}

TEST(TopK, WithoutRowsDoesNothing) {
  top_k(TestTensor::poisoned({0, 5}, DType::f16), TestTensor::poisoned({0, 2}, DType::f16).view(),
        {});
}

TEST(TopK, BadInputIsNamed) {
  const auto input = TestTensor::from(std::vector<double>(12, 1), {3, 4}, DType::f32);
  const auto values = TestTensor::poisoned({3, 2}, DType::f32);
  const auto indices = TestTensor::poisoned({3, 2}, DType::i32);
  const auto three = TestTensor::ints({1, 1, 1});
  const auto two = TestTensor::ints({1, 1});
  TopKOptions short_lengths;
  short_lengths.lengths = two.view();
  test::expect_errors({
      {[&] { top_k(indices, values.view(), {}); }, ErrorCode::wrong_type,
       "top_k: input: got i32, expected f32 or f16 or bf16"},
      {[&] { top_k(input, {}, {}); }, ErrorCode::invalid_argument,
       "top_k: values: got no output, expected values, indices or both"},
      {[&] { top_k(input, indices.view(), {}); }, ErrorCode::wrong_type,
       "top_k: values: got i32, expected f32"},
      {[&] { top_k(input, values.view(), TestTensor::poisoned({3, 3}, DType::i32).view()); },
       ErrorCode::invalid_argument,
       "top_k: indices: got 3 in dimension 1 (shape [3, 3]), expected 2 (k of the other output)"},
      {[&] { top_k(input, {}, TestTensor::poisoned({3, 2049}, DType::i32).view()); },
       ErrorCode::not_implemented, "top_k: indices: got k = 2049, expected at most 2048"},
      {[&] { top_k(input, {}, TestTensor::poisoned({3, 0}, DType::i32).view()); },
       ErrorCode::invalid_argument, "top_k: indices: got k = 0, expected at least 1"},
      {[&] { top_k(input, values.view(), {}, short_lengths); }, ErrorCode::invalid_argument,
       "top_k: lengths: got 2 in dimension 0 (shape [2]), expected 3 (one element a row)"},
      {[&] { top_k(input, values.view(), {}, {.next_n = 3}); }, ErrorCode::invalid_argument,
       "top_k: next_n: got 3, expected 1 without lengths"},
      {[&] { top_k(input, values.view(), {}, {.lengths = two.view(), .next_n = 2}); },
       ErrorCode::invalid_argument,
       "top_k: next_n: got 2, expected a divisor of the 3 rows of "
       "input"},
      {[&] { top_k(input, values.view(), {}, {.lengths = two.view(), .next_n = 3}); },
       ErrorCode::invalid_argument,
       "top_k: lengths: got 2 in dimension 0 (shape [2]), expected 1 (one element next_n rows)"},
      {[&] { top_k(input, values.view(), {}, {.lengths = three.view(), .compress_ratio = 0}); },
       ErrorCode::invalid_argument, "top_k: compress_ratio: got 0, expected at least 1"},
      {[&] { top_k_ragged_transform(input, two, indices); }, ErrorCode::invalid_argument,
       "top_k_ragged_transform: offsets: got 2 in dimension 0 (shape [2]), expected 3 (one element "
       "a row)"},
      {[&] { top_k_page_table_transform(input, {.table = indices, .page_size = 3}, indices); },
       ErrorCode::invalid_argument,
       "top_k_page_table_transform: page_size: got 3, expected a power of two"},
      {[&] { top_k_page_table_transform(input, {.table = values}, indices); },
       ErrorCode::wrong_type, "top_k_page_table_transform: page_table: got f32, expected i32"},
  });
  EXPECT_EQ(indices.values(), std::vector<double>(6, -1));
}

}  // namespace
}  // namespace quire
