// One decode step over a paged KV-cache: plan once a step, run once a layer.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "quire/quire.h"

int main() {
  using quire::DType;
  using quire::TensorView;
  constexpr int kBatch = 2, kQoHeads = 8, kKvHeads = 2, kHeadDim = 64, kPageSize = 16, kPages = 8;

  // Request 0 holds 40 tokens in pages 5, 0, 3; request 1 holds 17 tokens in pages 1, 6.
  std::vector<std::int32_t> qo_indptr{0, 1, 2}, kv_indptr{0, 3, 5}, kv_indices{5, 0, 3, 1, 6};
  std::vector<std::int32_t> last_page_len{8, 1};
  std::vector<float> q(kBatch * kQoHeads * kHeadDim, 0.1f), out(q.size());
  std::vector<float> k(kPages * kPageSize * kKvHeads * kHeadDim, 0.2f), v(k.size(), 0.5f);

  const auto ints = [](std::vector<std::int32_t>& values) {
    return TensorView::contiguous(values.data(), DType::i32,
                                  {static_cast<std::int64_t>(values.size())});
  };
  const auto rows = [](std::vector<float>& values) {
    return TensorView::contiguous(values.data(), DType::f32, {kBatch, kQoHeads, kHeadDim});
  };
  const auto pool = [](std::vector<float>& values) {
    return TensorView::contiguous(values.data(), DType::f32,
                                  {kPages, kPageSize, kKvHeads, kHeadDim});
  };

  try {
    quire::BatchAttention attention(quire::kCpu);  // or quire::cuda_device(0)
    const quire::AttentionShape shape{.num_qo_heads = kQoHeads,
                                      .num_kv_heads = kKvHeads,
                                      .head_dim_qk = kHeadDim,
                                      .head_dim_vo = kHeadDim,
                                      .page_size = kPageSize,
                                      .q_dtype = DType::f32,
                                      .kv_dtype = DType::f32,
                                      .o_dtype = DType::f32};
    attention.plan(shape, ints(qo_indptr), {ints(kv_indptr), ints(kv_indices), ints(last_page_len)},
                   {.causal = true});
    attention.run(rows(q), {pool(k), pool(v)}, rows(out), {}, {.causal = true});
  } catch (const quire::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::printf("out[0] = %.3f, expected 0.500\n", out[0]);
  return out[0] > 0.499f && out[0] < 0.501f ? 0 : 1;
}
