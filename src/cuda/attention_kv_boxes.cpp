#include "cuda/attention_kv_boxes.h"

#include <bit>

namespace quire::cuda {

int page_shift(int page_size) {
  const auto size = static_cast<unsigned>(page_size);
  return std::has_single_bit(size) ? std::countr_zero(size) : -1;
}

bool boxes_can_describe_kv(const kernels::AttentionParams& p) {
  const auto steps = [](std::int64_t size, std::int64_t stride) { return size <= 1 || stride > 0; };
  const std::int64_t rows = p.page_size > 0 ? p.page_size : p.total_kv;
  return steps(rows, p.k_token_stride) && steps(rows, p.v_token_stride) &&
         steps(p.num_kv_heads, p.k_head_stride) && steps(p.num_kv_heads, p.v_head_stride) &&
         steps(p.num_pages, p.k_page_stride) && steps(p.num_pages, p.v_page_stride);
}

}  // namespace quire::cuda
