// Writing new keys and values into a paged KV-cache, and the index arrays for it.
#pragma once

#include <optional>

#include "quire/fp8_scale.h"
#include "quire/paged_kv.h"

namespace quire {

// Which token of a paged cache each row of an append goes to. All index arrays live on the tensors'
// device. On the CPU they are checked before anything is written; on CUDA a row that points outside
// the table or the pool is skipped, and with QUIRE_CHECKED=1 in the environment a kernel looks for
// such rows first and the call, which then waits for the device, throws.
class AppendRows {
 public:
  // Row i goes to token positions[i] (i32 [nnz]) of request batch_indices[i] (i32 [nnz]). Rows
  // whose batch index is negative are skipped (padding).
  AppendRows(const TensorView& batch_indices, const TensorView& positions, const PageTable& table)
      : batch_indices_(batch_indices), positions_(positions), table_(table) {}
  // Row i goes to slot_mapping[i] (i32 or i64 [n], n <= rows) = page * page_size + token; rows with
  // a negative slot, and those past n, are skipped.
  explicit AppendRows(const TensorView& slot_mapping) : slot_mapping_(slot_mapping) {}

  const std::optional<TensorView>& slot_mapping() const { return slot_mapping_; }
  const TensorView& batch_indices() const { return batch_indices_; }
  const TensorView& positions() const { return positions_; }
  const PageTable& table() const { return table_; }

 private:
  std::optional<TensorView> slot_mapping_;
  TensorView batch_indices_, positions_;
  PageTable table_;
};

// Scales of an fp8 cache that is filled from wider rows, which are divided by them: numbers, or f32
// tensors [1] or [num_kv_heads]. Computed ones are refused.
struct KvScales {
  Fp8Scale k = 1.f;
  Fp8Scale v = 1.f;
};

// key, value [nnz, num_kv_heads, head_dim], last dims contiguous. They and the pools share one
// dtype of 1, 2 or 4 bytes and are copied; or they are f32/f16/bf16 and the pools f8e4m3 or f8e5m2:
// the cache gets value / scale, rounded to nearest even and saturating.
void append_paged_kv(const TensorView& key, const TensorView& value, const AppendRows& rows,
                     const PagedKv& cache, const KvScales& scales = {}, Stream stream = {});
void append_paged_kv(const TensorView& key, const TensorView& value,
                     const TensorView& batch_indices, const TensorView& positions,
                     const PagedKv& cache, const PageTable& table, Stream stream = {});

// The latent cache of MLA (DeepSeek-AI 2024, https://arxiv.org/abs/2405.04434): ckv [nnz, ckv_dim]
// and kpe [nnz, kpe_dim] go to ckv_cache [num_pages, page_size, ckv_dim] and kpe_cache [num_pages,
// page_size, kpe_dim]. scales.k is ckv's, scales.v kpe's.
void append_paged_mla(const TensorView& ckv, const TensorView& kpe, const AppendRows& rows,
                      const TensorView& ckv_cache, const TensorView& kpe_cache,
                      const KvScales& scales = {}, Stream stream = {});

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
