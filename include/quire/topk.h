// Top-k selection: the k largest elements of each row. Exact and deterministic: of equal elements
// at the boundary those with the lowest (or highest) indices are taken, on every device.
#pragma once

#include <cstdint>
#include <optional>

#include "quire/tensor.h"

namespace quire {

enum class TieBreak : std::uint8_t { lowest_index, highest_index };

struct TopKOptions {
  // i32 [n]: only elements [start, start + length) of row i count, and indices count from start.
  // Without them the row begins at 0 and ends at its end; numbers beyond that are cut.
  std::optional<TensorView> row_starts, lengths;
  // Of decode steps with drafts: lengths is i32 [n / next_n], a request has next_n rows, and row j
  // of them counts (length - next_n + j + 1) / compress_ratio elements, rounded down: an element
  // stands for compress_ratio tokens, and each draft sees one token more.
  int next_n = 1;
  int compress_ratio = 1;
  TieBreak tie_break = TieBreak::lowest_index;
};

// values [n, k] (dtype of input) and indices i32 [n, k] of the k largest elements of each row,
// descending; equal ones in the order of tie_break. input [n, len] f32/f16/bf16, last dimension
// contiguous, len up to 2^23; k from 1 to 2048. Either output may be left out. NaN counts as the
// largest number, -0 as 0. Where a row has fewer than k elements the rest is -inf and -1.
void top_k(const TensorView& input, const std::optional<TensorView>& values,
           const std::optional<TensorView>& indices, const TopKOptions& options = {},
           Stream stream = {});

// out[i] = offsets[i] + index for the k largest elements of row i, ascending, then -1: positions in
// a ragged tensor. offsets i32 [n], out i32 [n, k]; raw_indices i32 [n, k]: the indices themselves.
void top_k_ragged_transform(const TensorView& input, const TensorView& offsets,
                            const TensorView& out, const TopKOptions& options = {},
                            const std::optional<TensorView>& raw_indices = {}, Stream stream = {});

struct TopKPageTable {
  TensorView table;  // i32 [batch, columns], last dimension contiguous
  // i32 [n]: the table's row for row i; without it row i.
  std::optional<TensorView> row_to_batch;
  // i32 [n]: column of the window's first element, in pages; without it options.row_starts, or 0.
  std::optional<TensorView> row_starts;
  int page_size = 1;  // elements a column stands for: a power of two
};

// out[i] = page * page_size + index % page_size for the k largest elements of row i, ascending by
// index, then -1; page = table[batch, start + index / page_size]. An element that the table does
// not have gives -1.
void top_k_page_table_transform(const TensorView& input, const TopKPageTable& pages,
                                const TensorView& out, const TopKOptions& options = {},
                                const std::optional<TensorView>& raw_indices = {},
                                Stream stream = {});

}  // namespace quire
