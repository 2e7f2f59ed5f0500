#include "quire/topk.h"

#include <fmt/format.h>

#include <bit>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/topk.h"
#include "cuda/topk.h"
#include "topk/topk_types.h"

namespace quire {
namespace {

using check::Arg;
using kernels::RowNumbers;
using kernels::TopkParams;

void check_matrix(const Arg& arg, bool is_output = false) {
  check::rank(arg, 2);
  check::last_dim_contiguous(arg);
  check::memory(arg, is_output);
}

RowNumbers row_numbers(const Arg& arg, const Arg& input, int rows_per_element = 1) {
  check::dtype(arg, {DType::i32});
  check::rank(arg, 1);
  check::dim(arg, 0, input.tensor.shape[0] / rows_per_element,
             rows_per_element == 1 ? "one element a row" : "one element next_n rows");
  check::device(arg, input);
  check::memory(arg);
  return {static_cast<const kernels::i32*>(arg.tensor.data), rows::step(arg.tensor, 0)};
}
RowNumbers row_numbers(std::string_view name, const std::optional<TensorView>& tensor,
                       const Arg& input) {
  return tensor ? row_numbers({input.op, name, *tensor}, input) : RowNumbers{};
}

// An output [n, k]; the first one decides about k.
void check_output(const Arg& arg, const Arg& input, TopkParams& p) {
  check_matrix(arg, /*is_output=*/true);
  check::dim(arg, 0, input.tensor.shape[0], "rows of input");
  check::device(arg, input);
  const std::int64_t k = arg.tensor.shape[1];
  if (p.k != 0) check::dim(arg, 1, p.k, "k of the other output");
  if (k > kernels::kMaxTopK) {
    check::fail(arg.op, arg.name, fmt::format("k = {}", k),
                fmt::format("at most {}", kernels::kMaxTopK), ErrorCode::not_implemented);
  }
  if (k < 1) check::fail(arg.op, arg.name, fmt::format("k = {}", k), "at least 1");
  p.k = static_cast<int>(k);
}

void add_indices(const Arg& arg, const Arg& input, TopkParams& p) {
  check::dtype(arg, {DType::i32});
  check_output(arg, input, p);
  p.indices = static_cast<kernels::i32*>(arg.tensor.data);
  p.indices_stride = rows::step(arg.tensor, 0);
}

TopkParams check_input(const Arg& input, const TopKOptions& options) {
  check::dtype(input, {DType::f32, DType::f16, DType::bf16});
  check_matrix(input);
  if (input.tensor.shape[1] > kernels::kMaxVocab) {
    check::fail(input.op, input.name, fmt::format("{} elements a row", input.tensor.shape[1]),
                fmt::format("at most {}", kernels::kMaxVocab));
  }
  TopkParams p{};
  p.in = {input.tensor.data, rows::step(input.tensor, 0),
          rows::count(input, input.tensor.shape[0], "rows"),
          static_cast<int>(input.tensor.shape[1])};
  p.starts = row_numbers("row_starts", options.row_starts, input);
  p.next_n = options.next_n;
  p.compress_ratio = options.compress_ratio;
  for (const auto& [name, value] :
       {std::pair{"next_n", p.next_n}, {"compress_ratio", p.compress_ratio}}) {
    if (value < 1 || (value > 1 && !options.lengths)) {
      check::fail(input.op, name, fmt::format("{}", value),
                  value < 1 ? "at least 1" : "1 without lengths");
    }
  }
  if (input.tensor.shape[0] % p.next_n != 0) {
    check::fail(input.op, "next_n", fmt::format("{}", p.next_n),
                fmt::format("a divisor of the {} rows of {}", input.tensor.shape[0], input.name));
  }
  if (options.lengths) {
    p.lengths = row_numbers({input.op, "lengths", *options.lengths}, input, p.next_n);
  }
  p.highest_index = options.tie_break == TieBreak::highest_index ? 1 : 0;
  return p;
}

void add_transformed(const Arg& out, const std::optional<TensorView>& raw_indices, const Arg& input,
                     TopkParams& p) {
  check::dtype(out, {DType::i32});
  check_output(out, input, p);
  p.out = static_cast<kernels::i32*>(out.tensor.data);
  p.out_stride = rows::step(out.tensor, 0);
  if (raw_indices) add_indices({input.op, "raw_indices", *raw_indices}, input, p);
  p.by_index = 1;
}

void run(const Arg& input, const TopkParams& p, Stream stream) {
  if (p.in.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(input.tensor.dtype);
  dispatch(
      input.op.data(), input.tensor.device, [&] { cpu::top_k(dtype, p); },
      [&] { cuda::top_k(dtype, p, input.tensor.device.index, stream); });
}

}  // namespace

void top_k(const TensorView& input, const std::optional<TensorView>& values,
           const std::optional<TensorView>& indices, const TopKOptions& options, Stream stream) {
  const Arg in{"top_k", "input", input};
  TopkParams p = check_input(in, options);
  if (values) {
    const Arg arg{in.op, "values", *values};
    check::dtype(arg, {input.dtype});
    check_output(arg, in, p);
    p.values = arg.tensor.data;
    p.values_stride = rows::step(arg.tensor, 0);
  }
  if (indices) add_indices({in.op, "indices", *indices}, in, p);
  if (!values && !indices) check::fail(in.op, "values", "no output", "values, indices or both");
  run(in, p, stream);
}

void top_k_ragged_transform(const TensorView& input, const TensorView& offsets,
                            const TensorView& out, const TopKOptions& options,
                            const std::optional<TensorView>& raw_indices, Stream stream) {
  const Arg in{"top_k_ragged_transform", "input", input};
  TopkParams p = check_input(in, options);
  p.offsets = row_numbers({in.op, "offsets", offsets}, in);
  add_transformed({in.op, "out", out}, raw_indices, in, p);
  run(in, p, stream);
}

void top_k_page_table_transform(const TensorView& input, const TopKPageTable& pages,
                                const TensorView& out, const TopKOptions& options,
                                const std::optional<TensorView>& raw_indices, Stream stream) {
  const Arg in{"top_k_page_table_transform", "input", input};
  TopkParams p = check_input(in, options);
  const Arg table{in.op, "page_table", pages.table};
  check::dtype(table, {DType::i32});
  check_matrix(table);
  check::device(table, in);
  if (pages.page_size < 1 || !std::has_single_bit(static_cast<unsigned>(pages.page_size))) {
    check::fail(in.op, "page_size", fmt::format("{}", pages.page_size), "a power of two");
  }
  p.page_table = static_cast<const kernels::i32*>(table.tensor.data);
  p.table_stride = rows::step(table.tensor, 0);
  p.table_rows = rows::count(table, table.tensor.shape[0], "rows");
  p.table_columns = rows::count(table, table.tensor.shape[1], "columns");
  p.batches = row_numbers("row_to_batch", pages.row_to_batch, in);
  p.table_starts = row_numbers("page_table_row_starts", pages.row_starts, in);
  p.page_shift = std::countr_zero(static_cast<unsigned>(pages.page_size));
  add_transformed({in.op, "out", out}, raw_indices, in, p);
  run(in, p, stream);
}

}  // namespace quire
