// Whole pages of a KV-cache: copies for copy-on-write and defragmentation, gathers and scatters for
// swapping out and in.
#pragma once

#include <span>

#include "quire/tensor.h"

namespace quire {

// Pools and page tensors: [pages, …], rank 2 to 8, any dtype, any strides with a contiguous last
// dimension, everything past dimension 0 one page. Page ids: i32 or i64 [n]; a negative id skips
// its entry. Ids outside the pool are errors on the CPU and skipped on CUDA. One call is one
// layer's K or V pool, a view of several that share the pages dimension, or a list of pools.

// pool[dst[i]] = pool[src[i]]. Pages that are written are read by no entry and written by one only.
void copy_pages(const TensorView& pool, const TensorView& src, const TensorView& dst,
                Stream stream = {});
// The same copies in each of the pools, which have one shape, dtype, strides and device: those of
// all layers, in one launch for every 128 of them.
void copy_pages(std::span<const TensorView> pools, const TensorView& src, const TensorView& dst,
                Stream stream = {});

// out[i] = pool[pages[i]]. out [n, …], the dtype and page shape of pool.
void gather_pages(const TensorView& pool, const TensorView& pages, const TensorView& out,
                  Stream stream = {});

// pool[pages[i]] = in[i].
void scatter_pages(const TensorView& in, const TensorView& pages, const TensorView& pool,
                   Stream stream = {});

}  // namespace quire
