// What attention_copy_kv shares with the host.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

// Warps of a block, and tokens of one KV head that a warp copies.
constexpr int kCopyKvWarps = 8, kCopyKvTokens = 32;

// The type of the copies: an fp8 cache becomes what 16-bit queries are, exactly.
constexpr DType copied_dtype(const AttentionConfig& c) {
  return is_fp8(c.q_dtype) ? c.kv_dtype : c.q_dtype;
}

// The tokens of requests one after the other: request r's from token_indptr[r] on, all of them or
// none.
struct CopyKvParams {
  AttentionParams attention;
  const i32* token_indptr;  // [batch_size + 1]
  void* k;                  // [num_kv_heads, num_tokens, head_dim_qk], 16-byte aligned
  void* v;                  // [num_kv_heads, num_tokens, head_dim_vo], 16-byte aligned
  i32 num_tokens;           // token_indptr[batch_size]
};

}  // namespace quire::kernels
