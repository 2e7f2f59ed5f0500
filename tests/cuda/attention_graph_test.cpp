// Plans for CUDA graphs: what a captured launch holds does not change with later plans.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "attention/attention_types.h"
#include "cuda/driver.h"
#include "jit/scoped_environment.h"
#include "quire/attention.h"
#include "support/attention_variants.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

struct RecordedLaunch {
  unsigned grid_x;
  kernels::AttentionParams params;
  bool operator==(const RecordedLaunch& other) const {
    return grid_x == other.grid_x && std::memcmp(&params, &other.params, sizeof(params)) == 0;
  }
};

std::vector<RecordedLaunch> launches;
cuda::DriverTable real_driver;  // outlives the tests: it stays in force on the emulator

cuda::Result record_launch(const cuda::LaunchConfig* config, cuda::Function function, void** params,
                           void** extra) {
  RecordedLaunch launch{.grid_x = config->grid_x, .params = {}};
  std::memcpy(&launch.params, params[0], sizeof(launch.params));
  launches.push_back(launch);
  return real_driver.launch_kernel(config, function, params, extra);
}

constexpr int kHeads = 4, kKvHeads = 2, kHeadDim = 64, kPageSize = 4;
constexpr int kBatch = 3, kMaxPages = 60;
constexpr AttentionShape kShape{.num_qo_heads = kHeads,
                                .num_kv_heads = kKvHeads,
                                .head_dim_qk = kHeadDim,
                                .head_dim_vo = kHeadDim,
                                .page_size = kPageSize};
constexpr AttentionReservation kRoom{
    .max_batch_size = kBatch, .max_total_q = kBatch, .max_kv_entries = kMaxPages};

struct Table {
  explicit Table(const std::vector<std::int32_t>& kv_lens) {
    std::vector<std::int32_t> indptr{0}, indices, last;
    for (const std::int32_t len : kv_lens) {
      const std::int32_t pages = (len + kPageSize - 1) / kPageSize;
      for (std::int32_t p = 0; p < pages; ++p) {
        indices.push_back((7 * static_cast<std::int32_t>(indices.size()) + 3) % kMaxPages);
      }
      indptr.push_back(static_cast<std::int32_t>(indices.size()));
      last.push_back(pages == 0 ? 0 : len - (pages - 1) * kPageSize);
    }
    tensors.push_back(TestTensor::ints(indptr, kCpu));
    tensors.push_back(TestTensor::ints(indices, kCpu));
    tensors.push_back(TestTensor::ints(last, kCpu));
  }
  PageTable view() const { return {tensors[0], tensors[1], tensors[2]}; }
  std::vector<TestTensor> tensors;
};

class AttentionGraph : public testing::Test {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "CUDA graphs are CUDA's";
    static const cuda::DriverTable first = cuda::driver();
    real_driver = table_ = first;
    table_.launch_kernel = record_launch;
  }

  std::vector<double> run(BatchAttention& attention) const {
    const TestTensor out = TestTensor::poisoned({kBatch, kHeads, kHeadDim}, DType::bf16);
    attention.run(q_, {k_, v_, KvLayout::nhd}, out, {}, {.sm_scale = 0.1f});
    EXPECT_TRUE(out.guards_intact());
    return out.values();
  }

  const TestTensor qo_indptr_ = TestTensor::ints({0, 1, 2, 3}, kCpu);
  const TestTensor q_ = TestTensor::random({kBatch, kHeads, kHeadDim}, DType::bf16, 1);
  const TestTensor k_ =
      TestTensor::random({kMaxPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 2);
  const TestTensor v_ =
      TestTensor::random({kMaxPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 3);
  cuda::DriverTable table_{};
};

const std::vector<std::vector<std::int32_t>> kSteps = {
    {5, 1, 9}, {230, 0, 3}, {0, 0, 0}, {70, 71, 72}, {1, 1, 1}};

TEST_F(AttentionGraph, LaterPlansKeepTheLaunch) {
  BatchAttention graph(test_device()), eager(test_device());
  graph.reserve(kShape, kRoom);
  for (const auto& kv_lens : kSteps) {
    const Table table(kv_lens);
    graph.plan(kShape, qo_indptr_, table.view());
    eager.plan(kShape, qo_indptr_, table.view());
    const std::vector<double> expected = run(eager);
    EXPECT_LT(relative_error(run(graph), expected), 6e-3) << kv_lens[0];
  }
}

TEST_F(AttentionGraph, CapturedParametersNeverChange) {
  struct Kernel {
    const char* name;
    std::size_t num_launches;
  };
  for (const Kernel& kernel : {Kernel{"decode", 1}, Kernel{"sm80", 2}}) {  // with its merge
    const ScopedVariable force("QUIRE_FORCE_KERNEL", kernel.name);
    // One output for all runs, so that its address is no difference.
    const TestTensor out = TestTensor::poisoned({kBatch, kHeads, kHeadDim}, DType::bf16);
    BatchAttention graph(test_device());
    graph.reserve(kShape, kRoom);
    std::vector<std::vector<RecordedLaunch>> steps;
    graph.plan(kShape, qo_indptr_, Table(kSteps[0]).view());
    graph.run(q_, {k_, v_, KvLayout::nhd}, out);  // compiled and loaded by the real table
    cuda::replace_driver_for_testing(&table_);
    for (const auto& kv_lens : kSteps) {
      graph.plan(kShape, qo_indptr_, Table(kv_lens).view());
      launches.clear();
      graph.run(q_, {k_, v_, KvLayout::nhd}, out);
      steps.push_back(launches);
    }
    synchronize(test_device());
    cuda::replace_driver_for_testing(&real_driver);
    ASSERT_EQ(steps[0].size(), kernel.num_launches);
    for (const auto& step : steps) EXPECT_EQ(step, steps[0]) << kernel.name;
  }
}

// What a captured graph does: the same launch again and again, with new plans in between.
TEST_F(AttentionGraph, ReplaysBeginWithCleanCounters) {
  BatchAttention graph(test_device()), eager(test_device());
  graph.reserve(kShape, kRoom);
  for (const auto& kv_lens : kSteps) {
    const Table table(kv_lens);
    graph.plan(kShape, qo_indptr_, table.view());
    eager.plan(kShape, qo_indptr_, table.view());
    const std::vector<double> first = run(graph);
    EXPECT_LT(relative_error(first, run(eager)), 6e-3);
    for (int replay = 0; replay < 3; ++replay) EXPECT_EQ(run(graph), first) << kv_lens[0];
  }
}

TEST_F(AttentionGraph, WhatDoesNotFitIsRefusedAndThePlanStays) {
  BatchAttention graph(test_device());
  graph.reserve(kShape, kRoom);
  graph.plan(kShape, qo_indptr_, Table({5, 1, 9}).view());
  const std::vector<double> before = run(graph);
  expect_errors({
      {[&] {
         graph.plan(kShape, TestTensor::ints({0, 1, 2, 2, 3}, kCpu), Table({5, 1, 0, 2}).view());
       },
       ErrorCode::invalid_argument,
       "attention.plan: batch_size: got 4, expected at most 3, as reserved"},
      {[&] { graph.plan(kShape, TestTensor::ints({0, 2, 3, 4}, kCpu), Table({5, 1, 2}).view()); },
       ErrorCode::invalid_argument,
       "attention.plan: rows of q: got 4, expected at most 3, as reserved"},
      {[&] { graph.plan(kShape, qo_indptr_, Table({100, 100, 100}).view()); },
       ErrorCode::invalid_argument,
       "attention.plan: kv_indices: got 75, expected at most 60, as reserved"},
      {[&] {
         AttentionShape other = kShape;
         other.page_size = 8;
         graph.plan(other, qo_indptr_, Table({4, 1, 2}).view());
       },
       ErrorCode::invalid_argument, "attention.plan: page_size: got 8, expected 4, as reserved"},
      {[&] {
         graph.plan(kShape, qo_indptr_, Table({4, 1, 2}).view(),
                    {.variant = soft_cap_variant().variant});
       },
       ErrorCode::invalid_argument,
       "attention.plan: variant: got \"soft_cap\", expected none, as reserved"},
  });
  EXPECT_EQ(run(graph), before);
}

}  // namespace
}  // namespace quire::test
