// Variable lengths and empty tiles, ragged: no hang, no padding, empty rows are 0 and -inf.
//
// On a GPU with the original sizes, but for batches whose tensors take too long to make. The CPU
// takes fewer heads (the same groups) and combinations, the emulator short lengths as well.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

struct HeadDims {
  int qk, vo;
};
constexpr HeadDims kHeadDims[] = {{128, 128}, {192, 128}};
constexpr float kScales[] = {1.f, 0.08838834764831845f, 0.07216878364870323f};  // 1, 1/√128, 1/√192

std::vector<int> lens_of(const std::vector<int>& indptr) {
  std::vector<int> lens;
  for (std::size_t i = 1; i < indptr.size(); ++i) lens.push_back(indptr[i] - indptr[i - 1]);
  return lens;
}

// `many_kv_heads`: as many as query heads, else an eighth.
AttentionCase ragged(bool many_kv_heads, HeadDims dims) {
  const int heads = on_gpu() ? 32 : 8;
  AttentionCase c;
  c.shape = {.num_qo_heads = heads,
             .num_kv_heads = many_kv_heads ? heads : heads / 8,
             .head_dim_qk = dims.qk,
             .head_dim_vo = dims.vo,
             .page_size = 0};
  return c;
}

// The reference computes about `count` rows, spread over tokens and heads.
void sample_rows(AttentionCase& c, int count) {
  int rows = 0;
  for (const int len : c.qo_lens) rows += len * c.shape.num_qo_heads;
  c.row_step = std::max(1, rows / count);
  while (c.row_step % 2 == 0 || c.row_step % 3 == 0) ++c.row_step;  // not always the same head
}

void check(const AttentionCase& c) {
  SCOPED_TRACE(testing::Message() << "dims " << c.shape.head_dim_qk << " kv heads "
                                  << c.shape.num_kv_heads << " causal " << c.causal << " batch "
                                  << c.qo_lens.size() << " qo " << c.qo_lens[0] << " kv "
                                  << c.kv_lens[0] << " scale " << c.sm_scale);
  const AttentionBatch batch(c);
  expect_near(batch.run(), batch.reference(), c);
}

void check_long_prompts(bool causal) {
  std::vector<int> lens = lens_of({0, 1274, 2568, 3915, 5194, 6498, 7839, 8192});
  if (is_emulated()) {
    for (int& len : lens) len /= 64;
  }
  for (const HeadDims dims : kHeadDims) {
    for (const bool many_kv_heads : {false, true}) {
      if (!on_gpu() && many_kv_heads == (dims.qk == 128)) continue;
      AttentionCase c = ragged(many_kv_heads, dims);
      c.qo_lens = c.kv_lens = lens;
      c.causal = causal;
      for (const float scale : kScales) {
        if (!on_gpu() && scale != kScales[many_kv_heads ? 2 : 1]) continue;
        c.sm_scale = scale;
        sample_rows(c, 200);
        check(c);
      }
    }
  }
}

TEST(AcceptanceC, LongPrompts) { check_long_prompts(false); }
TEST(AcceptanceC, LongPromptsCausal) { check_long_prompts(true); }

TEST(AcceptanceC, EmptyKvOfMostRequests) {
  for (const bool causal : {false, true}) {
    for (const bool many_kv_heads : {false, true}) {
      for (const HeadDims dims : kHeadDims) {
        AttentionCase c = ragged(many_kv_heads, dims);
        c.qo_lens = lens_of({0, 10, 20, 30, 40, 50, 60, 100});
        c.kv_lens = lens_of({0, 50, 50, 50, 50, 50, 50, 50});
        c.causal = causal;
        check(c);
      }
    }
  }
}

// Every pair of lengths; the batch shrinks where the tensors would become too large to make.
void check_uniform_batches(bool causal) {
  constexpr int kBatches[] = {1, 2, 3, 9, 17};
  const int scale = is_emulated() ? 16 : 1;
  const int max_tokens = on_gpu() ? 4096 : is_emulated() ? 256 : 2048;
  int turn = causal ? 1 : 0;
  for (const int qo_len : {1, 17, 177, 377, 977}) {
    for (const int kv_len : {1, 17, 544, 977, 1999}) {
      AttentionCase c = ragged(turn % 2 == 0, kHeadDims[turn / 2 % 2]);
      const int q = std::max(1, qo_len / scale), kv = std::max(1, kv_len / scale);
      const int largest = std::max(1, max_tokens / std::max(q, kv));
      const auto batch = static_cast<std::size_t>(std::min(kBatches[turn % 5], largest));
      c.qo_lens.assign(batch, q);
      c.kv_lens.assign(batch, kv);
      c.causal = causal;
      c.sm_scale = kScales[turn % 3];
      sample_rows(c, 150);
      check(c);
      ++turn;
    }
  }
}

TEST(AcceptanceC, UniformBatches) { check_uniform_batches(false); }
TEST(AcceptanceC, UniformBatchesCausal) { check_uniform_batches(true); }

}  // namespace
}  // namespace quire::test
