// Writing new keys and values into a paged KV-cache, and the index arrays for it.
#pragma once

#include "quire/paged_kv.h"

namespace quire {

// Row i of key/value [nnz, num_kv_heads, head_dim] goes to request batch_indices[i] (i32 [nnz]),
// token positions[i] (i32 [nnz]) of the cache. Rows whose batch index is negative are skipped
// (padding). key, value and the pools share one dtype of 1, 2 or 4 bytes; last dims contiguous.
// All index arrays live on the tensors' device; on the CPU they are checked before anything is
// written, on CUDA a row that points outside the table or the pool is skipped.
void append_paged_kv(const TensorView& key, const TensorView& value,
                     const TensorView& batch_indices, const TensorView& positions,
                     const PagedKv& cache, const PageTable& table, Stream stream = {});

// Expands a ragged append to one (request, position) a token; positions are aligned to the end:
// positions[i] = i - append_indptr[b] + seq_lens[b] - (append_indptr[b + 1] - append_indptr[b]).
// append_indptr i32 [batch + 1], seq_lens i32 [batch] (lengths after the append), outputs i32
// [nnz]. Entries past append_indptr[batch] get batch index -1 and position 0.
void get_batch_indices_positions(const TensorView& append_indptr, const TensorView& seq_lens,
                                 const TensorView& batch_indices, const TensorView& positions,
                                 Stream stream = {});

// seq_lens[r] = kv length of request r, 0 for a request without pages. All i32.
void get_seq_lens(const TensorView& kv_indptr, const TensorView& kv_last_page_len, int page_size,
                  const TensorView& seq_lens, Stream stream = {});

}  // namespace quire
