// The planner on the device makes the lists that the planner on the host makes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/attention.h"
#include "plan/attention_bounds.h"
#include "plan/planner.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

using kernels::MergeItem;
using kernels::WorkItem;
using Lens = std::vector<std::int32_t>;

struct Case {
  int group_size, num_kv_heads, qo_len, window_left, fixed_split_size;
  bool disable_split_kv;
  plan::AttentionTile tile;
  Lens kv_lens;
};

template <class T>
Buffer upload(const std::vector<T>& values) {
  Buffer buffer(std::max<std::size_t>(values.size() * sizeof(T), 1), test_device());
  copy(buffer.data(), test_device(), values.data(), kCpu, values.size() * sizeof(T));
  return buffer;
}

// Memory for `count` of T on the device, and reading the first of them.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t count)
      : buffer_(upload(std::vector<T>(static_cast<std::size_t>(count) + 1))) {}
  T* data() const { return static_cast<T*>(buffer_.data()); }
  std::vector<T> read(std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    copy(values.data(), kCpu, buffer_.data(), test_device(), values.size() * sizeof(T));
    return values;
  }

 private:
  Buffer buffer_;
};

template <class T>
void expect_same(const std::vector<T>& got, const std::vector<T>& expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(T)), 0) << what << " " << i;
  }
}

plan::AttentionProblem problem_of(const Case& c, const Lens& qo_lens) {
  return {.qo_lens = qo_lens,
          .kv_lens = c.kv_lens,
          .group_size = c.group_size,
          .num_kv_heads = c.num_kv_heads,
          .window_left = c.window_left,
          .fixed_split_size = c.fixed_split_size,
          .disable_split_kv = c.disable_split_kv};
}

struct DevicePlan {
  plan::AttentionPlan plan;
  std::vector<std::uint32_t> counters;
  Lens kv_lens;
  int first_bad;
};

constexpr int kPageSize = 16, kMaxPages = 200;

// By block tables of kMaxPages a request, or `page_indptr`. room: for a batch of one more.
DevicePlan plan_on_device(const Case& c, const Lens* page_indptr = nullptr, int num_indices = 0,
                          double room = 1) {
  const auto batch = static_cast<std::int64_t>(c.kv_lens.size());
  const Lens qo_lens(c.kv_lens.size(), c.qo_len);
  const plan::AttentionProblem problem = problem_of(c, qo_lens);
  const plan::AttentionBounds bounds =
      plan::attention_bounds({.batch_size = batch + 1,
                              .total_q = (batch + 1) * c.qo_len,
                              .max_qo_len = c.qo_len,
                              .total_kv = batch * kMaxPages * kPageSize},
                             problem, c.tile);
  const std::int64_t max_items = static_cast<std::int64_t>(bounds.num_items * room);
  const DeviceArray<WorkItem> items(max_items);
  const DeviceArray<MergeItem> merges(bounds.num_merges);
  const std::int64_t num_counters = (bounds.num_partial_rows + 1) / 2;
  const Buffer counters =
      upload(std::vector<std::uint32_t>(static_cast<std::size_t>(num_counters), 7));
  const DeviceArray<std::int32_t> indptr(c.tile.num_workers + 1), count(1), qo_indptr(batch + 2),
      kv_indptr(batch + 2), kv_lens(batch + 1), first_bad(1), first_cuts(c.tile.num_workers + 1);
  const DeviceArray<kernels::LineSums> sums(batch + 2);
  const DeviceArray<kernels::i64> loads(c.tile.num_workers);
  const DeviceArray<kernels::LineCut> cuts(c.tile.num_workers + 1);
  const DeviceArray<kernels::LineCutSums> cut_sums(c.tile.num_workers + 1);
  const Buffer seq_lens = upload(c.kv_lens);
  const Buffer pages = page_indptr ? upload(*page_indptr) : Buffer();
  cuda::attention_plan(
      test_device().index,
      {.line = plan::line_problem(problem, c.tile),
       .seq_lens = static_cast<const std::int32_t*>(seq_lens.data()),
       .page_indptr = page_indptr ? static_cast<const std::int32_t*>(pages.data()) : nullptr,
       .max_pages = kMaxPages,
       .num_indices = page_indptr ? num_indices : static_cast<int>(batch) * kMaxPages,
       .page_size = kPageSize,
       .qo_len = c.qo_len,
       .max_batch_size = static_cast<int>(batch) + 1,
       .max_items = static_cast<int>(max_items),
       .max_merges = static_cast<int>(bounds.num_merges),
       .max_partial_rows = static_cast<int>(bounds.num_partial_rows),
       .items = items.data(),
       .counters = c.tile.merges_itself ? static_cast<std::uint32_t*>(counters.data()) : nullptr,
       .worker_indptr = indptr.data(),
       .merges = merges.data(),
       .merge_count = count.data(),
       .qo_indptr = qo_indptr.data(),
       .kv_indptr = kv_indptr.data(),
       .kv_lens = kv_lens.data(),
       .first_bad = first_bad.data(),
       .sums = sums.data(),
       .loads = loads.data(),
       .cuts = cuts.data(),
       .cut_sums = cut_sums.data(),
       .first_cuts = first_cuts.data()},
      {});
  DevicePlan result;
  result.plan.worker_indptr = indptr.read(c.tile.num_workers + 1);
  result.plan.items = items.read(result.plan.worker_indptr.back());
  result.plan.merges = merges.read(count.read(1)[0]);
  result.counters.resize(static_cast<std::size_t>(num_counters));
  copy(result.counters.data(), kCpu, counters.data(), test_device(),
       result.counters.size() * sizeof(std::uint32_t));
  result.kv_lens = kv_lens.read(batch + 1);
  result.first_bad = first_bad.read(1)[0];
  const Lens rows = qo_indptr.read(batch + 2);
  for (std::int64_t r = 0; r < batch + 2; ++r) {  // one request of padding
    EXPECT_EQ(rows[static_cast<std::size_t>(r)], std::min(r, batch) * c.qo_len);
  }
  EXPECT_EQ(result.kv_lens.back(), 0);
  return result;
}

class AttentionPlanOnDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "the kernel is CUDA's";
  }
};

Case any_case(std::mt19937& random) {
  const auto pick = [&](std::initializer_list<int> values) {
    return values.begin()[random() % values.size()];
  };
  Case c{.group_size = pick({1, 3, 8}),
         .num_kv_heads = pick({1, 2, 5}),
         .qo_len = pick({1, 1, 2}),
         .window_left = pick({-1, -1, -1, -1, 0, 17, 500}),
         .fixed_split_size = pick({0, 0, 0, 13, 64, 1024}),
         .disable_split_kv = pick({0, 0, 0, 1}) == 1,
         .tile = {.num_workers = pick({1, 2, 7, 132, 600}),
                  .tile_q = pick({16, 64}),
                  .tile_kv = pick({8, 16, 64}),
                  .merges_itself = pick({0, 1}) == 1,
                  .memory_workers = pick({0, 0, 1, 45}),
                  .cut_cost = pick({0, 0, 1, 300})},
         .kv_lens = {}};
  const int batch = pick({0, 1, 2, 9, 40, 700});
  const int longest = pick({5, 80, kMaxPages * kPageSize, kMaxPages * kPageSize});
  for (int r = 0; r < batch; ++r) {
    c.kv_lens.push_back(pick({0, 1, 1, 1}) * static_cast<int>(random() % (longest + 1)));
  }
  return c;
}

TEST_F(AttentionPlanOnDevice, MakesTheListsOfTheHost) {
  std::mt19937 random(7);
  int cut = 0, whole = 0;
  for (int i = 0; i < 300; ++i) {
    const Case c = any_case(random);
    SCOPED_TRACE(i);
    const Lens qo_lens(c.kv_lens.size(), c.qo_len);
    const plan::AttentionProblem problem = problem_of(c, qo_lens);
    ASSERT_TRUE(plan::LinePlan::serves(problem, c.tile));
    const plan::AttentionPlan expected = plan::plan_attention(problem, c.tile);
    const DevicePlan got = plan_on_device(c);
    expect_same(got.plan.worker_indptr, expected.worker_indptr, "worker_indptr");
    expect_same(got.plan.items, expected.items, "item");
    expect_same(got.plan.merges, expected.merges, "merge");
    EXPECT_EQ(got.first_bad, kernels::kNoBadRequest);
    for (const WorkItem& item : got.plan.items) {
      if (!c.tile.merges_itself || item.num_parts == 1) continue;
      ASSERT_EQ(got.counters[static_cast<std::size_t>(item.first_partial_row) / 2], 0u);
    }
    (expected.num_partial_rows > 0 && c.fixed_split_size == 0 ? cut : whole) += 1;
  }
  EXPECT_GT(cut, 10);
  EXPECT_GT(whole, 10);
}

TEST_F(AttentionPlanOnDevice, LengthsThatDoNotFitBecomeNaN) {
  const Case good{1, 2, 1, -1, 0, false, {4, 16, 16}, {40, 0, 0, 300}};
  Case bad = good;
  bad.kv_lens = {40, kMaxPages * kPageSize + 1, -5, 300};
  const DevicePlan expected = plan_on_device(good), got = plan_on_device(bad);
  EXPECT_EQ(got.first_bad, 1);
  EXPECT_EQ(got.kv_lens, (Lens{40, -1, -1, 300, 0}));
  expect_same(got.plan.items, expected.plan.items, "item");
  ASSERT_EQ(got.plan.merges.size(), expected.plan.merges.size());
  int refused = 0;
  for (const MergeItem& merge : got.plan.merges) {
    const bool is_bad = merge.request == 1 || merge.request == 2;
    EXPECT_EQ(merge.num_parts == -1, is_bad);
    refused += is_bad;
  }
  EXPECT_EQ(refused, 4);  // of two heads
}

// Items of a kernel that merges itself say so.
TEST_F(AttentionPlanOnDevice, ItemsOfLengthsThatDoNotFit) {
  const Case bad{1, 2, 1, -1, 0, false, {4, 16, 16, 0, true}, {40, kMaxPages * kPageSize + 1, -5}};
  const DevicePlan got = plan_on_device(bad);
  EXPECT_EQ(got.first_bad, 1);
  EXPECT_TRUE(got.plan.merges.empty());
  int refused = 0;
  for (const WorkItem& item : got.plan.items) {
    EXPECT_EQ(item.num_parts == -1, item.request != 0);
    if (item.num_parts != -1) continue;
    EXPECT_EQ(item.kv_end, 0);
    ++refused;
  }
  EXPECT_EQ(refused, 4);  // of two heads
}

TEST_F(AttentionPlanOnDevice, PagesOfARaggedTable) {
  const Case c{1, 1, 1, -1, 0, true, {4, 16, 16}, {40, 33, 0, 16}};
  const Lens indptr{0, 3, 5, 5, 6};  // 33 tokens do not fit 2 pages
  EXPECT_EQ(plan_on_device(c, &indptr, 6).first_bad, 1);
  const Lens enough{0, 3, 6, 6, 7};
  EXPECT_EQ(plan_on_device(c, &enough, 7).first_bad, kernels::kNoBadRequest);
  EXPECT_EQ(plan_on_device(c, &enough, 6).first_bad, 3);  // one entry less than it says
  const Lens decreasing{0, 3, -7, 6, 7};
  EXPECT_EQ(plan_on_device(c, &decreasing, 7).first_bad, 1);
}

TEST_F(AttentionPlanOnDevice, WithoutRoomNothingIsPlanned) {
  const Case c{1, 2, 1, -1, 16, false, {4, 16, 16}, {3000, 3000, 3000}};
  const DevicePlan got = plan_on_device(c, nullptr, 0, 0.5);
  EXPECT_EQ(got.first_bad, 0);
  EXPECT_TRUE(got.plan.items.empty());
  ASSERT_EQ(got.plan.merges.size(), 6u);
  for (const MergeItem& merge : got.plan.merges) EXPECT_EQ(merge.num_parts, -1);
  Case itself = c;
  itself.tile.merges_itself = true;
  const DevicePlan items = plan_on_device(itself, nullptr, 0, 0.5);
  EXPECT_EQ(items.first_bad, 0);
  EXPECT_TRUE(items.plan.merges.empty());
  ASSERT_EQ(items.plan.items.size(), 6u);
  for (const WorkItem& item : items.plan.items) EXPECT_EQ(item.num_parts, -1);
}

}  // namespace
}  // namespace quire::test
