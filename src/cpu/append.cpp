#include "cpu/append.h"

#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::AppendConfig;
using kernels::AppendParams;
using kernels::AppendSide;
using kernels::PageSlot;

void append_row(const AppendConfig& config, const AppendSide& side, std::int64_t row, PageSlot to,
                int num_heads) {
  const auto* src = static_cast<const std::uint8_t*>(side.rows) + row * side.row_stride_bytes;
  auto* dst = static_cast<std::uint8_t*>(side.pool) + to.page * side.page_stride_bytes +
              to.slot * side.token_stride_bytes;
  for (int head = 0; head < num_heads; ++head) {
    const auto* src_head = src + head * side.row_head_stride_bytes;
    auto* dst_head = dst + head * side.head_stride_bytes;
    if (config.dtype == config.cache_dtype) {
      std::memcpy(dst_head, src_head, static_cast<std::size_t>(side.head_bytes));
      continue;
    }
    const float inverse = 1.f / (side.scales != nullptr ? side.scales[head * side.scale_head_stride]
                                                        : side.scale_value);
    float x[kRowPiece];
    for_each_piece(side.head_bytes / size_bytes(config.dtype), [&](int begin, int n) {
      load_row(x, src_head, config.dtype, begin, n);
      for (int i = 0; i < n; ++i) x[i] *= inverse;
      store_row(dst_head, config.cache_dtype, begin, x, n);
    });
  }
}

}  // namespace

void append_paged_kv(const AppendConfig& config, const AppendParams& p) {
  const std::int64_t row_bytes =
      static_cast<std::int64_t>(p.num_kv_heads) * (p.k.head_bytes + p.v.head_bytes);
#pragma omp parallel for schedule(static) if (p.to.nnz * row_bytes >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.to.nnz; ++row) {
    const PageSlot to = find_page_slot(p.to, row);
    if (to.page < 0) continue;
    append_row(config, p.k, row, to, p.num_kv_heads);
    append_row(config, p.v, row, to, p.num_kv_heads);
  }
}

void batch_indices_positions(const kernels::BatchIndicesParams& p) {
  for (std::int32_t i = 0; i < p.nnz; ++i) write_batch_index(p, i);
}

void seq_lens(const kernels::SeqLensParams& p) {
  for (std::int32_t r = 0; r < p.batch_size; ++r) write_seq_len(p, r);
}

}  // namespace quire::cpu
