// Host and device types of page_check.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct PageCheckConfig {
  i32 threads = 256;
};

template <class Visitor>
constexpr void visit_fields(const PageCheckConfig& c, Visitor&& visit) {
  visit("threads", c.threads);
}

struct PageCheckParams {
  const i32* indices;    // [num_indices]
  const i32* kv_indptr;  // [batch_size + 1]
  const i32* kv_lens;    // [batch_size], tokens
  i32* first_bad;        // [1]
  i32 batch_size;
  i32 page_size;
  i32 num_indices;
  i32 num_pages;
};

}  // namespace quire::kernels
