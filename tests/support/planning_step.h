// A small paged shape, page tables for it, and runs compared bit by bit: for tests of planning.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "quire/attention.h"
#include "support/test_tensor.h"

namespace quire::test {

using Lens = std::vector<std::int32_t>;

inline constexpr int kHeads = 4, kKvHeads = 2, kHeadDim = 64, kPageSize = 4, kPages = 64;
inline constexpr AttentionShape kShape{.num_qo_heads = kHeads,
                                       .num_kv_heads = kKvHeads,
                                       .head_dim_qk = kHeadDim,
                                       .head_dim_vo = kHeadDim,
                                       .page_size = kPageSize};

// The arrays of one plan. Request r's pages begin at page first_page[r].
struct Step {
  Step(const Lens& qo_lens, const Lens& kv_lens, const Lens& first_pages = {}) {
    Lens qo{0}, kv{0}, ids, last;
    for (std::size_t r = 0; r < qo_lens.size(); ++r) {
      qo.push_back(qo.back() + qo_lens[r]);
      const int pages = (kv_lens[r] + kPageSize - 1) / kPageSize;
      const int first = first_pages.empty() ? static_cast<int>(ids.size()) : first_pages[r];
      for (int i = 0; i < pages; ++i) ids.push_back((first + i) % kPages);
      kv.push_back(static_cast<std::int32_t>(ids.size()));
      last.push_back(pages == 0 ? 0 : kv_lens[r] - (pages - 1) * kPageSize);
    }
    num_rows = qo.back();
    for (const Lens* values : {&qo, &kv, &ids, &last}) {
      tensors.push_back(TestTensor::ints(*values, kCpu));
    }
  }
  TensorView qo_indptr() const { return tensors[0]; }
  PageTable table() const { return {tensors[1], tensors[2], tensors[3]}; }
  int num_rows = 0;
  std::vector<TestTensor> tensors;
};

struct Pool {
  TestTensor k = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 2);
  TestTensor v = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 3);
  PagedKv view() const { return {k, v, KvLayout::nhd}; }
};

using Bits = std::vector<std::uint8_t>;
inline constexpr std::size_t kRowBytes = kHeads * kHeadDim * 2;

// The bytes of out and lse.
inline Bits run_bits(BatchAttention& attention, const Pool& pool, const TestTensor& q,
                     bool causal) {
  const Shape shape(q.view().shape.begin(), q.view().shape.begin() + 3);
  const TestTensor out = TestTensor::poisoned(shape, DType::bf16);
  const TestTensor lse = TestTensor::poisoned({shape[0], kHeads}, DType::f32);
  attention.run(q, pool.view(), out, lse.view(), {.causal = causal});
  EXPECT_TRUE(out.guards_intact() && lse.guards_intact());
  Bits bits = out.raw();
  const Bits lse_bits = lse.raw();
  bits.insert(bits.end(), lse_bits.begin(), lse_bits.end());
  return bits;
}

inline TestTensor random_q(int rows, std::uint64_t seed = 1) {
  return TestTensor::random({rows, kHeads, kHeadDim}, DType::bf16, seed);
}

}  // namespace quire::test
