#include "cuda/attention_copy_kv.h"

#include "cuda/attention_specs.h"
#include "cuda/launch.h"

namespace quire::cuda {

kernels::AttentionParams over_copy(const KvCopy& copy, const kernels::AttentionConfig& config,
                                   const kernels::AttentionParams& params) {
  kernels::AttentionParams p = params;
  p.k = copy.k;
  p.v = copy.v;
  p.k_page_stride = p.v_page_stride = 0;
  p.k_token_stride = config.head_dim_qk;
  p.v_token_stride = config.head_dim_vo;
  p.k_head_stride = std::int64_t{copy.num_tokens} * config.head_dim_qk;
  p.v_head_stride = std::int64_t{copy.num_tokens} * config.head_dim_vo;
  p.kv_indptr = copy.token_indptr;
  p.kv_indices = nullptr;
  p.page_size = p.num_pages = p.num_indices = 0;
  p.total_kv = copy.num_tokens;
  return p;
}

void copy_kv(int device_index, const KvCopy& copy, const kernels::AttentionConfig& config,
             const kernels::AttentionParams& params, Stream stream) {
  kernels::AttentionConfig from = config;
  from.kv_dtype = copy.kv_dtype;
  const std::int64_t tiles =
      (std::int64_t{copy.num_tokens} + kernels::kCopyKvTokens - 1) / kernels::kCopyKvTokens;
  const std::int64_t blocks =
      (tiles * params.num_kv_heads + kernels::kCopyKvWarps - 1) / kernels::kCopyKvWarps;
  const kernels::CopyKvParams p{.attention = params,
                                .token_indptr = copy.token_indptr,
                                .k = copy.k,
                                .v = copy.v,
                                .num_tokens = copy.num_tokens};
  launch(get_kernel(copy_kv_spec(from), device_index), static_cast<unsigned>(blocks), 1, stream, p);
}

}  // namespace quire::cuda
