#include "quire/embedding.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/embedding.h"
#include "cuda/embedding.h"

namespace quire {
namespace {

using check::Arg;
using kernels::GatherRowsParams;

void check_gather_rows(const Arg& table, const Arg& indices, const Arg& out) {
  check::rank(table, 2);
  check::dtype(table, {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2,
                       DType::i32, DType::u8, DType::boolean});
  check::last_dim_contiguous(table);
  check::memory(table);
  check::rank(indices, 1);
  check::dtype(indices, {DType::i32});
  check::device(indices, table);
  check::memory(indices);
  check::rank(out, 2);
  check::dtype(out, {table.tensor.dtype});
  check::dim(out, 0, indices.tensor.shape[0], "number of indices");
  check::dim(out, 1, table.tensor.shape[1], "dim of table");
  check::last_dim_contiguous(out);
  check::device(out, table);
  check::memory(out, true);
}

void check_host_indices(const Arg& indices, std::int64_t table_rows) {
  const auto* data = static_cast<const std::int32_t*>(indices.tensor.data);
  for (std::int64_t i = 0; i < indices.tensor.shape[0]; ++i) {
    const std::int32_t index = data[i * indices.tensor.strides[0]];
    if (index < 0 || index >= table_rows) {
      check::fail(indices.op, indices.name, fmt::format("{} at {}", index, i),
                  fmt::format("0 to {}, a row of table", table_rows - 1));
    }
  }
}

}  // namespace

void gather_rows(const TensorView& table, const TensorView& indices, const TensorView& out,
                 Stream stream) {
  constexpr const char* kOp = "gather_rows";
  const Arg table_arg{kOp, "table", table}, indices_arg{kOp, "indices", indices};
  check_gather_rows(table_arg, indices_arg, {kOp, "out", out});
  if (table.device.is_cpu()) check_host_indices(indices_arg, table.shape[0]);
  if (out.numel() == 0) return;

  GatherRowsParams p{};
  p.table = table.data;
  p.indices = static_cast<const std::int32_t*>(indices.data);
  p.out = out.data;
  p.index_stride = rows::step(indices, 0);
  p.table_stride_bytes = rows::step_bytes(table, 0);
  p.out_stride_bytes = rows::step_bytes(out, 0);
  p.row_bytes = table.shape[1] * static_cast<std::int64_t>(size_bytes(table.dtype));
  p.table_rows = table.shape[0];
  p.num_indices = rows::count(indices_arg, indices.shape[0], "indices");
  dispatch(
      kOp, table.device, [&] { cpu::gather_rows(p); },
      [&] { cuda::gather_rows(p, table.device.index, stream); });
}

}  // namespace quire
