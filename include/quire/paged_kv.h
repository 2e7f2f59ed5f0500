// Paged KV-cache: the tensors that hold it and the table that says which pages a request owns.
#pragma once

#include <cstdint>

#include "quire/tensor.h"

namespace quire {

enum class KvLayout : std::uint8_t {
  nhd,  // [num_pages, page_size, num_kv_heads, head_dim]
  hnd,  // [num_pages, num_kv_heads, page_size, head_dim]
};

// K and V pools of one layer. Any strides (also views of one packed tensor) with a contiguous last
// dimension; k and v may have different strides and head dims.
// A layout that does not match the shape cannot be told apart when page_size == num_kv_heads.
struct PagedKv {
  TensorView k;  // layout's shape, head_dim_qk
  TensorView v;  // layout's shape, head_dim_vo
  KvLayout layout = KvLayout::nhd;
};

// Which pages hold which request. Request r owns indices[indptr[r] .. indptr[r + 1]); its last page
// holds last_page_len[r] tokens, the others page_size. No pages means kv_len 0; last_page_len is
// then ignored.
struct PageTable {
  TensorView indptr;         // i32 [batch + 1], contiguous
  TensorView indices;        // i32 [>= indptr[batch]], contiguous
  TensorView last_page_len;  // i32 [batch], contiguous
};

}  // namespace quire
