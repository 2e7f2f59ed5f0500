// What tests ask the dispatch table of attention.
#pragma once

#include "cuda/attention_config.h"

namespace quire::test {

// 16-bit requests of so many packed rows, on a GPU of 132 multiprocessors.
inline cuda::AttentionDemand hopper(int head_dim, double packed_rows) {
  return {.shape = {.head_dim_qk = head_dim, .head_dim_vo = head_dim},
          .mean_packed_rows = packed_rows,
          .max_packed_rows = packed_rows,
          .compute_major = 9,
          .num_sms = 132};
}

inline kernels::AttentionConfig first(const cuda::AttentionDemand& demand) {
  return cuda::attention_choices(demand).front().config;
}

}  // namespace quire::test
