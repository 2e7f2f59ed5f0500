// What appending to a paged KV-cache and its index functions share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct AppendConfig {
  DType dtype = DType::u8;        // of the rows
  DType cache_dtype = DType::u8;  // dtype: copied; fp8: converted
  i32 word_bytes = 1;  // bytes an access of the rows; divides their head sizes and every stride
  i32 threads = 128;   // a block

  bool operator==(const AppendConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const AppendConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("cache_dtype", c.cache_dtype);
  visit("word_bytes", c.word_bytes);
  visit("threads", c.threads);
}

// One of K and V: the new rows and the pool they go to. All sizes and strides in bytes.
struct AppendSide {
  const void* rows;     // [nnz, num_kv_heads, head_bytes]
  void* pool;           // [num_pages, page_size, num_kv_heads, head] by these strides (any layout)
  const float* scales;  // [1] or [num_kv_heads], or null: scale_value. Rows are divided by them
  i64 row_stride_bytes, row_head_stride_bytes;
  i64 page_stride_bytes, token_stride_bytes, head_stride_bytes;
  i32 head_bytes;  // of the rows
  i32 scale_head_stride;
  float scale_value;
};

// Which slot of the pool each row goes to: by slot_mapping, or by request and position.
struct SlotLookup {
  const void* slot_mapping;  // [nnz], i32 or i64: page * page_size + token; negative: skip the row
  const i32* batch_indices;  // [nnz]; negative: skip the row
  const i32* positions;      // [nnz]
  const i32* kv_indptr;      // [batch_size + 1]
  const i32* kv_indices;     // [num_indices]
  i64 slot_mapping_stride, batch_indices_stride, positions_stride;  // elements
  // Bounds: a row that leads outside them is skipped.
  i32 nnz, batch_size, page_size, num_indices, num_pages;
  bool wide_slots;  // slot_mapping is i64
};

struct AppendParams {
  AppendSide k, v;
  SlotLookup to;
  i32 num_kv_heads;
};

// Where a row goes; page -1: nowhere.
struct PageSlot {
  i32 page;
  i32 slot;  // token within the page
};

constexpr i64 mapped_slot(const SlotLookup& p, i64 row) {
  const i64 at = row * p.slot_mapping_stride;
  return p.wide_slots ? static_cast<const i64*>(p.slot_mapping)[at]
                      : static_cast<const i32*>(p.slot_mapping)[at];
}

constexpr PageSlot find_page_slot(const SlotLookup& p, i64 row) {
  constexpr PageSlot kNowhere{-1, 0};
  if (p.slot_mapping != nullptr) {
    const i64 slot = mapped_slot(p, row);
    if (slot < 0 || slot >= static_cast<i64>(p.num_pages) * p.page_size) return kNowhere;
    // In 32 bits where they do: a 64-bit division takes longer than the rest of the search.
    if (slot >> 32 == 0) {
      const u32 page = static_cast<u32>(slot) / static_cast<u32>(p.page_size);
      return {static_cast<i32>(page),
              static_cast<i32>(static_cast<u32>(slot) - page * p.page_size)};
    }
    return {static_cast<i32>(slot / p.page_size), static_cast<i32>(slot % p.page_size)};
  }
  const i32 request = p.batch_indices[row * p.batch_indices_stride];
  const i32 position = p.positions[row * p.positions_stride];
  if (request < 0 || request >= p.batch_size || position < 0) return kNowhere;
  const i64 index = static_cast<i64>(p.kv_indptr[request]) + position / p.page_size;
  if (index < 0 || index >= p.kv_indptr[request + 1] || index >= p.num_indices) return kNowhere;
  const i32 page = p.kv_indices[index];
  if (page < 0 || page >= p.num_pages) return kNowhere;
  return {page, position % p.page_size};
}

// Whether a row is padding, which leads nowhere on purpose.
constexpr bool is_padding(const SlotLookup& p, i64 row) {
  return p.slot_mapping != nullptr ? mapped_slot(p, row) < 0
                                   : p.batch_indices[row * p.batch_indices_stride] < 0;
}

// The index functions and slot_check: one thread an element.
struct IndexConfig {
  i32 threads = 128;

  bool operator==(const IndexConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const IndexConfig& c, Visitor&& visit) {
  visit("threads", c.threads);
}

struct SlotCheckParams {
  SlotLookup slots;
  i32* first_bad;  // [1]
};

struct BatchIndicesParams {
  const i32* append_indptr;  // [batch_size + 1]
  const i32* seq_lens;       // [batch_size]
  i32* batch_indices;        // [nnz]
  i32* positions;            // [nnz]
  i64 append_indptr_stride, seq_lens_stride, batch_indices_stride, positions_stride;
  i32 batch_size, nnz;
};

// Writes element i of both outputs. Bounded for any bytes in the inputs.
constexpr void write_batch_index(const BatchIndicesParams& p, i64 i) {
  i32 request = -1, position = 0;
  if (i < p.append_indptr[p.batch_size * p.append_indptr_stride]) {
    i32 low = 0, high = p.batch_size;  // the last request that begins at or before i
    while (high - low > 1) {
      const i32 middle = low + (high - low) / 2;
      if (p.append_indptr[middle * p.append_indptr_stride] <= i) {
        low = middle;
      } else {
        high = middle;
      }
    }
    if (p.batch_size > 0) {
      request = low;
      position = static_cast<i32>(i - p.append_indptr[(low + 1) * p.append_indptr_stride] +
                                  p.seq_lens[low * p.seq_lens_stride]);
    }
  }
  p.batch_indices[i * p.batch_indices_stride] = request;
  p.positions[i * p.positions_stride] = position;
}

struct SeqLensParams {
  const i32* kv_indptr;         // [batch_size + 1]
  const i32* kv_last_page_len;  // [batch_size]
  i32* seq_lens;                // [batch_size]
  i64 kv_indptr_stride, kv_last_page_len_stride, seq_lens_stride;
  i32 batch_size, page_size;
};

constexpr void write_seq_len(const SeqLensParams& p, i64 r) {
  const i64 pages = static_cast<i64>(p.kv_indptr[(r + 1) * p.kv_indptr_stride]) -
                    p.kv_indptr[r * p.kv_indptr_stride];
  const i64 tokens =
      pages > 0 ? (pages - 1) * p.page_size + p.kv_last_page_len[r * p.kv_last_page_len_stride] : 0;
  p.seq_lens[r * p.seq_lens_stride] = static_cast<i32>(tokens);
}

}  // namespace quire::kernels
