// What the row gather shares between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct GatherRowsConfig {
  i32 word_bytes = 1;  // bytes an access; divides row_bytes and every stride
  i32 threads = 128;   // a block

  bool operator==(const GatherRowsConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const GatherRowsConfig& c, Visitor&& visit) {
  visit("word_bytes", c.word_bytes);
  visit("threads", c.threads);
}

struct GatherRowsParams {
  const void* table;   // [table_rows, row_bytes]
  const i32* indices;  // [num_indices]
  void* out;           // [num_indices, row_bytes]
  i64 index_stride;    // elements
  i64 table_stride_bytes, out_stride_bytes;
  i64 row_bytes;
  i64 table_rows;
  i32 num_indices;
};

}  // namespace quire::kernels
