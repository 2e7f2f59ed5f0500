// Captured runs, replayed: after plans outside the graph, with the plan inside it, made by the host
// or by the device.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "cuda/recorded_graph.h"
#include "jit/scoped_environment.h"
#include "quire/attention.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

using Lens = std::vector<std::int32_t>;

constexpr int kBatch = 3, kHeads = 4, kKvHeads = 2, kHeadDim = 64, kPageSize = 4;
constexpr int kMaxPages = 20, kPages = kBatch * kMaxPages;
constexpr AttentionShape kShape{.num_qo_heads = kHeads,
                                .num_kv_heads = kKvHeads,
                                .head_dim_qk = kHeadDim,
                                .head_dim_vo = kHeadDim,
                                .page_size = kPageSize};
constexpr AttentionReservation kRoom{
    .max_batch_size = kBatch, .max_total_q = kBatch, .max_kv_entries = kPages};

// Lengths grow and shrink, requests come and go (0: padding).
const std::vector<Lens> kSteps = {{5, 1, 9}, {80, 0, 3}, {0, 0, 0},  {70, 71, 72},
                                  {1, 1},    {80},       {2, 80, 80}};

// Request r's pages are [r, r + 1) * kMaxPages.
struct HostTable {
  explicit HostTable(const Lens& lens) {
    Lens qo{0}, indptr{0}, ids, last;
    for (std::size_t r = 0; r < lens.size(); ++r) {
      const int pages = (lens[r] + kPageSize - 1) / kPageSize;
      for (int i = 0; i < pages; ++i) ids.push_back(static_cast<int>(r) * kMaxPages + i);
      qo.push_back(static_cast<int>(r) + 1);
      indptr.push_back(static_cast<int>(ids.size()));
      last.push_back(pages == 0 ? 0 : lens[r] - (pages - 1) * kPageSize);
    }
    for (const Lens* values : {&qo, &indptr, &ids, &last}) {
      tensors.push_back(TestTensor::ints(*values, kCpu));
    }
  }
  TensorView qo_indptr() const { return tensors[0]; }
  PageTable view() const { return {tensors[1], tensors[2], tensors[3]}; }
  std::vector<TestTensor> tensors;
};

// By the kernel that merges itself and by one that does not.
class AttentionReplay : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "CUDA graphs are CUDA's";
  }
  PagedKv kv() const { return {k_, v_, KvLayout::nhd}; }

  // What an engine without a graph makes of the first lens.size() rows of q.
  std::vector<double> expected(const Lens& lens) const {
    const HostTable table(lens);
    const auto rows = static_cast<std::int64_t>(lens.size());
    BatchAttention eager(test_device());
    eager.plan(kShape, table.qo_indptr(), table.view());
    const TestTensor out = TestTensor::poisoned({rows, kHeads, kHeadDim}, DType::bf16);
    eager.run(q_.view().slice(0, 0, rows), kv(), out, {}, {.causal = true});
    return out.values();
  }
  // The first rows of out_.
  std::vector<double> got(std::size_t rows) const {
    synchronize(test_device(), graph_stream_);
    std::vector<double> values = out_.values();
    values.resize(rows * kHeads * kHeadDim);
    return values;
  }
  void run(BatchAttention& attention, Stream stream) {
    graph_stream_ = stream;
    attention.run(q_, kv(), out_, {}, {.causal = true}, stream);
  }

  std::size_t merges() const { return std::string_view(GetParam()) == "decode" ? 0 : 1; }

  const ScopedVariable force_{"QUIRE_FORCE_KERNEL", GetParam()};
  const TestTensor q_ = TestTensor::random({kBatch, kHeads, kHeadDim}, DType::bf16, 1);
  const TestTensor k_ = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 2);
  const TestTensor v_ = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 3);
  const TestTensor out_ = TestTensor::poisoned({kBatch, kHeads, kHeadDim}, DType::bf16);
  Stream graph_stream_;
};

TEST_P(AttentionReplay, PlansOutsideTheGraph) {
  RecordedGraph graph;
  BatchAttention attention(test_device());
  attention.reserve(kShape, kRoom);
  const HostTable first(kSteps[0]);
  attention.plan(kShape, first.qo_indptr(), first.view(), {}, graph.stream());
  run(attention, graph.stream());  // compiles
  graph.begin_capture();
  run(attention, graph.stream());
  graph.end_capture();
  ASSERT_EQ(graph.size(), 1 + merges());
  for (const Lens& lens : kSteps) {
    const HostTable table(lens);
    attention.plan(kShape, table.qo_indptr(), table.view(), {}, graph.stream());
    graph.replay();
    EXPECT_EQ(got(lens.size()), expected(lens)) << lens[0];
  }
}

TEST_P(AttentionReplay, PlansInsideTheGraphByTheDevice) {
  RecordedGraph graph;
  BatchAttention attention(test_device());
  attention.reserve(kShape, kRoom);
  const TestTensor seq_lens = TestTensor::ints({1, 1, 1});
  std::vector<double> ids(kPages);
  for (int i = 0; i < kPages; ++i) ids[static_cast<std::size_t>(i)] = i;
  const TestTensor tables = TestTensor::from(ids, {kBatch, kMaxPages}, DType::i32);
  const DevicePageTable table{.seq_lens = seq_lens, .block_tables = tables.view()};
  attention.plan_on_device(kShape, 1, table, {}, graph.stream());
  run(attention, graph.stream());  // compiles
  graph.begin_capture();
  attention.plan_on_device(kShape, 1, table, {}, graph.stream());
  run(attention, graph.stream());
  graph.end_capture();
  ASSERT_EQ(graph.size(), 2 + merges());
  for (Lens lens : kSteps) {
    lens.resize(kBatch);
    copy(seq_lens.view().data, test_device(), lens.data(), kCpu, sizeof(std::int32_t) * kBatch);
    graph.replay();
    EXPECT_EQ(got(kBatch), expected(lens)) << lens[0];
    attention.check_plan(graph.stream());
  }
  const Lens bad{5, kMaxPages * kPageSize + 1, 7};
  copy(seq_lens.view().data, test_device(), bad.data(), kCpu, sizeof(std::int32_t) * kBatch);
  graph.replay();
  expect_error([&] { attention.check_plan(graph.stream()); }, ErrorCode::invalid_argument,
               "attention.plan_on_device: seq_lens: got a length that does not fit at [1], "
               "expected 0 to what the request's pages, and what is reserved, hold");
}

TEST_P(AttentionReplay, APlanInsideTheGraphIsCopiedAgainByEachReplay) {
  RecordedGraph graph;
  BatchAttention attention(test_device());
  attention.reserve(kShape, kRoom);
  const HostTable inside(kSteps[3]), outside(kSteps[1]);
  attention.plan(kShape, outside.qo_indptr(), outside.view(), {}, graph.stream());
  run(attention, graph.stream());
  graph.begin_capture();
  attention.plan(kShape, inside.qo_indptr(), inside.view(), {}, graph.stream());
  run(attention, graph.stream());
  graph.end_capture();
  for (int i = 0; i < 5; ++i) {  // more plans than buffers in the ring
    attention.plan(kShape, outside.qo_indptr(), outside.view(), {}, graph.stream());
    run(attention, graph.stream());
    EXPECT_EQ(got(kBatch), expected(kSteps[1]));
  }
  graph.replay();
  EXPECT_EQ(got(kBatch), expected(kSteps[3]));
}

TEST_P(AttentionReplay, WhatAGraphCannotHoldIsRefused) {
  RecordedGraph graph;
  const HostTable table(kSteps[0]);
  BatchAttention unreserved(test_device()), attention(test_device());
  attention.reserve(kShape, kRoom);
  attention.plan(kShape, table.qo_indptr(), table.view(), {.checked = true}, graph.stream());
  run(attention, graph.stream());
  graph.begin_capture();
  expect_errors({
      {[&] { unreserved.plan(kShape, table.qo_indptr(), table.view(), {}, graph.stream()); },
       ErrorCode::invalid_argument,
       "attention.plan: stream: got one that captures a CUDA graph, expected a call of reserve() "
       "before"},
      {[&] { run(attention, graph.stream()); }, ErrorCode::not_implemented,
       "attention.run: checked: got true on a stream that captures a CUDA graph, expected false: "
       "the check waits for the device"},
  });
  attention.plan(kShape, table.qo_indptr(), table.view(), {}, graph.stream());
  run(attention, graph.stream());
  graph.end_capture();
  expect_error([&] { attention.reserve(kShape, kRoom); }, ErrorCode::invalid_argument,
               "attention.reserve: reservation: got another one after a captured run, expected "
               "none: a CUDA graph holds the addresses of the last one");
}

// A captured run holds the address of its page ids.
TEST_P(AttentionReplay, PageIdsStayWhereACapturedRunReadsThem) {
  const HostTable host(kSteps[0]);
  const TestTensor seq_lens = TestTensor::ints({1, 1, 1});
  const TestTensor tables =
      TestTensor::from(std::vector<double>(kPages), {kBatch, kMaxPages}, DType::i32);
  const TestTensor others =
      TestTensor::from(std::vector<double>(kPages), {kBatch, kMaxPages}, DType::i32);
  const auto plan_on_device = [&](BatchAttention& attention, const TestTensor& table,
                                  Stream stream) {
    attention.plan_on_device(kShape, 1, {.seq_lens = seq_lens, .block_tables = table.view()}, {},
                             stream);
  };
  RecordedGraph graph;
  BatchAttention by_host(test_device()), by_device(test_device());
  by_host.reserve(kShape, kRoom);
  by_device.reserve(kShape, kRoom);
  by_host.plan(kShape, host.qo_indptr(), host.view(), {}, graph.stream());
  plan_on_device(by_device, tables, graph.stream());
  for (BatchAttention* attention : {&by_host, &by_device}) run(*attention, graph.stream());
  graph.begin_capture();
  for (BatchAttention* attention : {&by_host, &by_device}) run(*attention, graph.stream());
  graph.end_capture();
  by_host.plan(kShape, host.qo_indptr(), host.view(), {}, graph.stream());
  plan_on_device(by_device, tables, graph.stream());
  expect_errors({
      {[&] { plan_on_device(by_host, tables, graph.stream()); }, ErrorCode::invalid_argument,
       "attention.plan_on_device: table: got page ids on the device, expected page ids of plan(), "
       "which a captured run reads"},
      {[&] { plan_on_device(by_device, others, graph.stream()); }, ErrorCode::invalid_argument,
       "attention.plan_on_device: table: got page ids on the device, expected the table on the "
       "device that a captured run reads"},
      {[&] { by_device.plan(kShape, host.qo_indptr(), host.view(), {}, graph.stream()); },
       ErrorCode::invalid_argument,
       "attention.plan: table: got page ids of plan(), expected the table on the device that a "
       "captured run reads"},
  });
}

INSTANTIATE_TEST_SUITE_P(Kernels, AttentionReplay, testing::Values("decode", "sm80"),
                         [](const auto& kernel) { return std::string(kernel.param); });

}  // namespace
}  // namespace quire::test
