// What top-k selection shares between host and device.
#pragma once

#include "sampling/row_types.h"

namespace quire::kernels {

constexpr i32 kMaxTopK = 2048;

// A number a row; null stands for the default.
struct RowNumbers {
  const i32* values;  // [rows]
  i64 stride;
  constexpr i32 at(i64 row, i32 otherwise) const {
    return values == nullptr ? otherwise : values[row * stride];
  }
};

// A row's window is elements [start, start + length) of it, cut to the row; indices count from the
// window's start. Strides in elements.
struct TopkParams {
  RowsIn in;           // [rows, vocab]
  RowNumbers starts;   // 0
  RowNumbers lengths;  // of requests; null: to the end of the row
  i32 next_n;          // rows a request
  i32 compress_ratio;  // what lengths count, an element
  i32 k;
  i32 highest_index;  // 1: of equal elements, those with the highest indices
  i32 by_index;       // 1: outputs ascend by index, 0: they descend by value
  void* values;       // [rows, k] of the dtype of in, or null; -inf behind the window's last
  i64 values_stride;
  i32* indices;  // [rows, k] or null; -1 behind the window's last
  i64 indices_stride;
  i32* out;  // [rows, k] or null: the indices, transformed
  i64 out_stride;
  RowNumbers offsets;  // out = offset + index, without a page table
  // out = table[batch, table_start + index / page_size] * page_size + index % page_size
  const i32* page_table;  // [table_rows, table_columns] or null
  i64 table_stride;
  i32 table_rows, table_columns;
  RowNumbers batches;       // row of the table; the row itself
  RowNumbers table_starts;  // those of the windows
  i32 page_shift;           // log2(page_size)
};

// The end of a row's window, which has room for `room` elements.
constexpr i32 window_length(const TopkParams& p, i64 row, i32 room) {
  if (p.lengths.values == nullptr) return room;
  const i64 request = row / p.next_n;
  const i64 seen = i64{p.lengths.at(request, 0)} - p.next_n + (row - request * p.next_n) + 1;
  const i64 length = seen / p.compress_ratio;
  return length < 0 ? 0 : length < room ? static_cast<i32>(length) : room;
}

}  // namespace quire::kernels
