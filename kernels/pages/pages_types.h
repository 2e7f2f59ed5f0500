// What copies of whole pages share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct PageCopyConfig {
  DType index_dtype = DType::i32;  // i32 or i64
  i32 word_bytes = 1;              // bytes an access; divides the rows and every stride
  i32 threads = 256;               // a block

  bool operator==(const PageCopyConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const PageCopyConfig& c, Visitor&& visit) {
  visit("index_dtype", c.index_dtype);
  visit("word_bytes", c.word_bytes);
  visit("threads", c.threads);
}

constexpr i32 kMaxPageDims = 6;  // between the pages and the contiguous run of a row

constexpr i32 kMaxPagePools = 128;  // of a launch, whose parameters have 4 KiB

// Dimensions of a page that lie evenly on both sides are merged by the host. Bytes throughout.
struct PageCopyParams {
  const void* from;
  void* to;
  const void* src;             // [num_copies] page ids of from, or null: the entry's own index
  const void* dst;             // [num_copies] page ids of to, or null
  i64 src_stride, dst_stride;  // elements
  i64 from_page_stride, to_page_stride;
  i64 from_pages, to_pages;  // bounds
  i64 from_strides[kMaxPageDims], to_strides[kMaxPageDims];
  i32 shape[kMaxPageDims];
  i32 num_dims;
  i32 row_bytes, rows;  // rows: product of shape
  i32 num_copies;
  i32 shares;  // blocks a page; set by the CUDA backend
  i32 num_pools;
  i64 pool_offsets[kMaxPagePools];  // of both from and to; [0] is 0
};

// The page an entry names, or -1.
template <class Index>
constexpr i64 page_of(const void* ids, i64 stride, i64 entry, i64 num_pages) {
  const i64 page =
      ids != nullptr ? static_cast<i64>(static_cast<const Index*>(ids)[entry * stride]) : entry;
  return page >= 0 && page < num_pages ? page : -1;
}

struct PageRow {
  i64 from, to;
};

constexpr PageRow find_page_row(const PageCopyParams& p, i32 row) {
  PageRow at{0, 0};
  for (int d = p.num_dims - 1; d >= 0; --d) {
    const i32 index = d > 0 ? row % p.shape[d] : row;
    row /= p.shape[d];
    at.from += index * p.from_strides[d];
    at.to += index * p.to_strides[d];
  }
  return at;
}

}  // namespace quire::kernels
