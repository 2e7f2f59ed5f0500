// Few packed rows a request: what the decode kernel does differently. Every case is right on every
// backend; most are of a kind that the other kernels have no code for.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/test_device.h"

#if QUIRE_WITH_CUDA
#include "cuda/attention.h"
#endif

namespace quire::test {
namespace {

AttentionCase speculative(const std::string& name, int qo_len, int group) {
  AttentionCase c{.name = name};
  c.qo_lens = {qo_len, qo_len, 1, qo_len};
  c.kv_lens = {is_emulated() ? 150 : 1500, 33, 16, 4};
  c.shape.num_kv_heads = is_emulated() ? 1 : 2;
  c.shape.num_qo_heads = group * c.shape.num_kv_heads;
  c.causal = true;
  return c;
}

// So many parts that they are joined in groups; alone in the last one, or not; two parts as well.
std::vector<AttentionCase> cases_of_many_parts() {
  std::vector<AttentionCase> cases;
  for (const int dim : {128, 256}) {
    AttentionCase c = speculative("groups_of_parts_dim" + std::to_string(dim), 2, 8);
    c.kv_lens = {49 * 16, 47 * 16 - 3, 16, 32};
    c.shape.head_dim_qk = c.shape.head_dim_vo = dim;
    c.plan.fixed_split_size = 16;
    c.sinks = true;
    cases.push_back(c);
  }
  return cases;
}

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases;
  const auto add = [&cases](AttentionCase c, auto&& change) {
    change(c);
    cases.push_back(c);
  };
  // More items a worker than are looked up at first, twice over; requests without KV among them.
  AttentionCase many{.name = "many_items"};
  for (int i = 0; i < (is_emulated() ? 160 : 5000); ++i) {
    many.qo_lens.push_back(i % 7 == 3 ? 2 : 1);
    many.kv_lens.push_back(i % 11 == 0 ? 0 : i * 5 % 37);
  }
  many.qo_lens.erase(many.qo_lens.begin());
  many.kv_lens.erase(many.kv_lens.begin());
  many.plan.disable_split_kv = true;
  cases.push_back(many);
  add(many, [](AttentionCase& c) { c.name += "_page1", c.shape.page_size = 1; });
  add(many, [](AttentionCase& c) {
    c.name += "_window", c.window_left = 3, c.causal = true;  // most tiles of warps are skipped
  });
  AttentionCase again{.name = "rings_filled_again"};  // several items a worker, longer than a ring
  const std::size_t requests = is_emulated() ? 8 : 300;
  again.qo_lens.assign(requests, 1);
  again.kv_lens.assign(requests, 900);
  again.shape.num_kv_heads = again.shape.num_qo_heads = 1;
  again.plan.disable_split_kv = true;
  cases.push_back(again);
  struct Rows {
    int qo_len, group;
  };
  for (const Rows rows : {Rows{2, 4}, {4, 4}, {8, 4}, {5, 3}, {3, 7}, {8, 8}, {6, 8}}) {
    const std::string name =
        "rows_" + std::to_string(rows.qo_len) + "x" + std::to_string(rows.group);
    const AttentionCase c = speculative(name, rows.qo_len, rows.group);
    cases.push_back(c);
    add(c, [](AttentionCase& x) {  // a tree: every row has a mask of its own
      x.name += "_tree", x.custom_mask = x.empty_mask_rows = true, x.causal = false;
    });
    add(c, [](AttentionCase& x) { x.name += "_split", x.plan.fixed_split_size = 48; });
  }
  add(speculative("split_inside_tiles", 4, 4), [](AttentionCase& c) {
    c.plan.fixed_split_size = 21;  // parts share tiles of the grid
    c.sinks = true;
  });
  add(speculative("everything", 4, 4), [](AttentionCase& c) {
    c.custom_mask = c.sinks = c.alibi = c.packed_kv = true;
    c.window_left = 40;
    c.logits_soft_cap = 3;
    c.shape.layout = KvLayout::hnd;
    c.plan.fixed_split_size = 64;
  });
  for (const int dim : {128, 192, 256}) {
    for (const DType kv : {DType::bf16, DType::f8e4m3}) {
      for (const int page_size : {8, 1}) {
        const std::string name = "dim" + std::to_string(dim) + "_" + std::string(quire::name(kv)) +
                                 "_page" + std::to_string(page_size);
        add(speculative(name, 4, 4), [&](AttentionCase& c) {
          c.shape.head_dim_qk = dim;
          c.shape.head_dim_vo = dim == 192 ? 128 : dim;
          c.shape.kv_dtype = kv;
          c.shape.page_size = page_size;
          c.head_scales = true;
          c.plan.fixed_split_size = 64;
        });
      }
    }
  }
  // q outside the range of f16, in which the products of an fp8 cache are computed.
  add(speculative("kv_f8_large_q", 1, 4), [](AttentionCase& c) {
    c.shape.kv_dtype = DType::f8e4m3;
    c.q_scale = 1e7, c.sm_scale = 1e-8f;
  });
  add(speculative("kv_f8_small_q", 2, 8), [](AttentionCase& c) {
    c.shape.kv_dtype = DType::f8e5m2;
    c.q_scale = 1e-9, c.sm_scale = 1e8f;
  });
  return cases;
}

class AttentionDecode : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionDecode, AgreesWithReference) {
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, AttentionDecode, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });
INSTANTIATE_TEST_SUITE_P(ManyParts, AttentionDecode, testing::ValuesIn(cases_of_many_parts()),
                         [](const auto& each) { return each.param.name; });

// The counters of split tiles are as they were after every run.
TEST(AttentionDecode, RunsOfOnePlanAreTheSame) {
  AttentionCase c = speculative("", 2, 4);
  c.plan.fixed_split_size = 32;
  expect_equal_runs(AttentionBatch(c));
  for (const AttentionCase& many_parts : cases_of_many_parts()) {
    expect_equal_runs(AttentionBatch(many_parts));
  }
}

#if QUIRE_WITH_CUDA
// Any bytes in the arrays that live on the device: the kernel ends and stays inside its outputs.
class GarbageOnTheDevice {
 public:
  explicit GarbageOnTheDevice(unsigned seed) : engine_(seed) {}

  TestTensor ints(int count) { return TestTensor::ints(numbers(count)); }
  // Work items. many_parts: some belong to tiles of so many parts that they are joined in groups.
  TestTensor items(int count, bool many_parts) {
    constexpr int kInts = sizeof(kernels::WorkItem) / 4;
    std::vector<std::int32_t> values = numbers(count * kInts);
    for (int i = 0; many_parts && i < count; i += 2) {
      kernels::WorkItem item{.request = i % 3, .kv_head = i % 2};
      item.partial_row = number();
      item.num_parts = 130 + i;
      std::memcpy(&values[static_cast<std::size_t>(i * kInts)], &item, sizeof(item));
    }
    return TestTensor::ints(values);
  }
  std::vector<std::int32_t> numbers(int count) {
    std::vector<std::int32_t> values;
    for (int i = 0; i < count; ++i) values.push_back(number());
    return values;
  }
  // Small, so that much of it points somewhere, or anything.
  std::int32_t number() {
    const auto any = static_cast<std::int32_t>(engine_());
    return engine_() % 8 == 0 ? any : static_cast<std::int32_t>(engine_() % 40) - 2;
  }

 private:
  std::mt19937 engine_;
};

constexpr int kBatch = 3, kKvHeads = 2, kQoHeads = 8, kDim = 64, kTotalQ = 9, kPages = 5;
constexpr int kItems = 40, kPartialRows = 1400, kIndices = 17, kRaggedTokens = 70;

cuda::AttentionTarget garbage_target(int page_size, kernels::DType kv_dtype) {
  return cuda::attention_target(
      test_device().index,
      {.shape = {.kv_dtype = kv_dtype, .head_dim_qk = kDim, .head_dim_vo = kDim},
       .mean_packed_rows = 4,
       .max_packed_rows = 4,
       .group_size = kQoHeads / kKvHeads,
       .page_size = page_size},
      nullptr);
}

// The bounds that hold, for tensors and arrays of these sizes.
kernels::AttentionParams garbage_bounds(unsigned seed, int page_size) {
  const bool paged = page_size > 0;
  constexpr int kRow = kKvHeads * kDim;
  const std::int64_t page = std::int64_t{paged ? page_size : kRaggedTokens} * kRow;
  return {.q_token_stride = kQoHeads * kDim,
          .q_head_stride = kDim,
          .k_page_stride = page,
          .k_token_stride = kRow,
          .k_head_stride = kDim,
          .v_page_stride = page,
          .v_token_stride = kRow,
          .v_head_stride = kDim,
          .out_token_stride = kQoHeads * kDim,
          .out_head_stride = kDim,
          .sm_scale = 0.1f,
          .v_scale = 1,
          .causal = static_cast<int>(seed % 3 == 0),
          .window_left = seed % 5 == 0 ? 3 : -1,
          .batch_size = kBatch,
          .num_qo_heads = kQoHeads,
          .num_kv_heads = kKvHeads,
          .group_size = kQoHeads / kKvHeads,
          .page_size = page_size,
          .num_pages = paged ? kPages : 0,
          .total_q = kTotalQ,
          .total_kv = paged ? 0 : kRaggedTokens,
          .num_items = kItems,
          .num_indices = paged ? kIndices : 0,
          .num_partial_rows = kPartialRows,
          .mask_bytes = 16};
}

template <class T>
T* data_of(const TestTensor& tensor) {
  return static_cast<T*>(tensor.view().data);
}

void run_on_garbage(unsigned seed, int page_size, bool fp8) {
  const cuda::AttentionTarget target =
      garbage_target(page_size, fp8 ? kernels::DType::f8e4m3 : kernels::DType::bf16);
  kernels::AttentionParams p = garbage_bounds(seed, page_size);
  p.num_workers = target.tile.num_workers;
  p.tile_rows = target.tile.tile_q;

  GarbageOnTheDevice garbage(seed);
  const bool many_parts = seed % 2 == 0;
  const TestTensor items = garbage.items(kItems, many_parts);
  const TestTensor worker_indptr = garbage.ints(p.num_workers + 1);
  const TestTensor qo_indptr =
      many_parts ? TestTensor::ints({0, 3, 6, kTotalQ}) : garbage.ints(kBatch + 1);
  const TestTensor kv_indptr = garbage.ints(kBatch + 1);
  const TestTensor kv_lens = garbage.ints(kBatch), kv_indices = garbage.ints(kIndices);
  const TestTensor mask_indptr = garbage.ints(kBatch + 1), mask = garbage.ints(4);
  const TestTensor counters = garbage.ints((kPartialRows + 1) / 2);
  p.items = data_of<kernels::WorkItem>(items);
  p.worker_indptr = data_of<int>(worker_indptr);
  p.qo_indptr = data_of<int>(qo_indptr);
  p.kv_indptr = data_of<int>(kv_indptr);
  p.kv_lens = data_of<int>(kv_lens);
  p.kv_indices = page_size > 0 ? data_of<int>(kv_indices) : nullptr;
  p.mask_indptr = data_of<int>(mask_indptr);
  p.custom_mask = seed % 2 == 0 ? data_of<kernels::u8>(mask) : nullptr;
  p.counters = data_of<kernels::u32>(counters);

  const int pages = page_size > 0 ? kPages : 1, tokens = page_size > 0 ? page_size : kRaggedTokens;
  const DType kv_dtype = fp8 ? DType::f8e4m3 : DType::bf16;
  const TestTensor q = TestTensor::random({kTotalQ, kQoHeads, kDim}, DType::bf16, 1);
  const TestTensor k = TestTensor::random({pages, tokens, kKvHeads, kDim}, kv_dtype, 2);
  const TestTensor v = TestTensor::random({pages, tokens, kKvHeads, kDim}, kv_dtype, 3);
  const TestTensor out = TestTensor::poisoned({kTotalQ, kQoHeads, kDim}, DType::bf16);
  const TestTensor lse = TestTensor::poisoned({kTotalQ, kQoHeads}, DType::f32);
  const TestTensor partial_o = TestTensor::poisoned({kPartialRows, kDim}, DType::f32);
  const TestTensor partial_lse = TestTensor::poisoned({kPartialRows}, DType::f32);
  p.q = q.view().data;
  p.k = k.view().data;
  p.v = v.view().data;
  p.out = out.view().data;
  p.lse = data_of<float>(lse);
  p.partial_o = data_of<float>(partial_o);
  p.partial_lse = data_of<float>(partial_lse);

  cuda::attention(test_device().index, {.config = target.config}, p, {});
  synchronize(test_device());
  for (const TestTensor* tensor : {&out, &lse, &partial_o, &partial_lse, &counters}) {
    EXPECT_TRUE(tensor->guards_intact()) << "seed " << seed;
  }
}

TEST(AttentionDecode, AnyBytesInDeviceArraysStayInBounds) {
  if (!test_device().is_cuda()) GTEST_SKIP() << "the CPU backend reads no device arrays";
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "items that point to the same rows are a race";
#endif
  for (unsigned seed = 0; seed < 200; ++seed) {
    const int page_size = std::array{16, 1, 0}[seed % 3];
    run_on_garbage(seed, page_size, /*fp8=*/seed % 4 == 3);
  }
}
#endif

}  // namespace
}  // namespace quire::test
