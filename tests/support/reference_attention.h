// Batch attention in double, straight from its definition; knows nothing of plans or tiles.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace quire::test {

// One request. Rows of q are [qo_len, num_qo_heads, head_dim_qk], of k [kv_len, num_kv_heads,
// head_dim_qk], of v [kv_len, num_kv_heads, head_dim_vo].
struct ReferenceRequest {
  int qo_len = 0, kv_len = 0;
  std::vector<double> q, k, v;
  std::vector<bool> mask;  // [qo_len, kv_len], or empty: all true
  int index = 0;           // in the batch; only custom variants ask
};

// A row of q, for custom variants.
struct ReferenceRow {
  int request, token, position, qo_len, kv_len, qo_head, kv_head;
};
using ReferenceLogits = std::function<double(const ReferenceRow&, double logit, int kv_token)>;
using ReferenceVisible = std::function<bool(const ReferenceRow&, int kv_token)>;

struct ReferenceOptions {
  int num_qo_heads = 1, num_kv_heads = 1, head_dim_qk = 16, head_dim_vo = 16;
  bool causal = false;
  int window_left = -1;
  double sm_scale = 1;
  double logits_soft_cap = 0;
  double v_scale = 1;
  bool base_two = false;             // of lse
  std::vector<double> sinks;         // [num_qo_heads], or empty
  std::vector<double> alibi_slopes;  // [num_qo_heads], or empty
  ReferenceLogits logits = nullptr;  // of a custom variant
  ReferenceVisible visible = nullptr;
  bool softmax = true;  // false: logits are weights; lse is 0
  int row_step = 1;     // computes only every row_step-th (token, head) row
};

// Rows that were skipped stay NaN.
struct ReferenceResult {
  std::vector<double> out;  // [qo_len, num_qo_heads, head_dim_vo]
  std::vector<double> lse;  // [qo_len, num_qo_heads]
};

ReferenceResult reference_attention(const ReferenceRequest& request,
                                    const ReferenceOptions& options);

}  // namespace quire::test
