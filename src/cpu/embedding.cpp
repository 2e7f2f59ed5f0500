#include "cpu/embedding.h"

#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {

void gather_rows(const kernels::GatherRowsParams& p) {
  const auto* table = static_cast<const std::uint8_t*>(p.table);
  auto* out = static_cast<std::uint8_t*>(p.out);
#pragma omp parallel for schedule(static) if (p.num_indices * p.row_bytes >= kMinParallelElements)
  for (std::int64_t i = 0; i < p.num_indices; ++i) {
    const std::int64_t row = p.indices[i * p.index_stride];
    std::memcpy(out + i * p.out_stride_bytes, table + row * p.table_stride_bytes,
                static_cast<std::size_t>(p.row_bytes));
  }
}

}  // namespace quire::cpu
