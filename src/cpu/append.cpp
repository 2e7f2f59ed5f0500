#include "cpu/append.h"

#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::AppendParams;
using kernels::AppendSide;
using kernels::PageSlot;

void append_row(const AppendSide& side, std::int64_t row, PageSlot to, int num_heads) {
  const auto* src = static_cast<const std::uint8_t*>(side.rows) + row * side.row_stride_bytes;
  auto* dst = static_cast<std::uint8_t*>(side.pool) + to.page * side.page_stride_bytes +
              to.slot * side.token_stride_bytes;
  for (int head = 0; head < num_heads; ++head) {
    std::memcpy(dst + head * side.head_stride_bytes, src + head * side.row_head_stride_bytes,
                static_cast<std::size_t>(side.head_bytes));
  }
}

}  // namespace

void append_paged_kv(const AppendParams& p) {
  const std::int64_t row_bytes =
      static_cast<std::int64_t>(p.num_kv_heads) * (p.k.head_bytes + p.v.head_bytes);
#pragma omp parallel for schedule(static) if (p.nnz * row_bytes >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.nnz; ++row) {
    const PageSlot to = find_page_slot(p, row);
    if (to.page < 0) continue;
    append_row(p.k, row, to, p.num_kv_heads);
    append_row(p.v, row, to, p.num_kv_heads);
  }
}

void batch_indices_positions(const kernels::BatchIndicesParams& p) {
  for (std::int32_t i = 0; i < p.nnz; ++i) write_batch_index(p, i);
}

void seq_lens(const kernels::SeqLensParams& p) {
  for (std::int32_t r = 0; r < p.batch_size; ++r) write_seq_len(p, r);
}

}  // namespace quire::cpu
