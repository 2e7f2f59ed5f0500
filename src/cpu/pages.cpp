#include "cpu/pages.h"

#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::PageCopyParams;

template <class Index>
void copy_page(const PageCopyParams& p, std::int64_t entry, std::int64_t pool) {
  const std::int64_t src = kernels::page_of<Index>(p.src, p.src_stride, entry, p.from_pages);
  const std::int64_t dst = kernels::page_of<Index>(p.dst, p.dst_stride, entry, p.to_pages);
  if (src < 0 || dst < 0) return;
  const auto* from = static_cast<const std::uint8_t*>(p.from) + pool + src * p.from_page_stride;
  auto* to = static_cast<std::uint8_t*>(p.to) + pool + dst * p.to_page_stride;
  for (std::int32_t row = 0; row < p.rows; ++row) {
    const kernels::PageRow at = find_page_row(p, row);
    std::memcpy(to + at.to, from + at.from, static_cast<std::size_t>(p.row_bytes));
  }
}

}  // namespace

void copy_pages(const kernels::PageCopyConfig& config, const PageCopyParams& p) {
  const std::int64_t copies = std::int64_t{p.num_pools} * p.num_copies;
  const std::int64_t bytes = copies * p.rows * p.row_bytes;
#pragma omp parallel for schedule(static) if (bytes >= kMinParallelElements)
  for (std::int64_t i = 0; i < copies; ++i) {
    const std::int64_t entry = i % p.num_copies, pool = p.pool_offsets[i / p.num_copies];
    if (config.index_dtype == kernels::DType::i64) {
      copy_page<std::int64_t>(p, entry, pool);
    } else {
      copy_page<std::int32_t>(p, entry, pool);
    }
  }
}

}  // namespace quire::cpu
