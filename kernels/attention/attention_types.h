// What planner, CPU backend and kernels of batch attention share.
//
// Packed rows: the num_qo_heads of a request fall into groups of group_size heads that share one KV
// head. For one (request, kv_head), packed row p is token p / group_size of the request and qo head
// kv_head * group_size + p % group_size; there are qo_len * group_size of them.
#pragma once

#include "dtype.h"

namespace quire::kernels {

// Up to tile_q packed rows of one request and KV head against the KV tokens [kv_begin, kv_end).
struct WorkItem {
  i32 request;
  i32 kv_head;
  i32 q_begin;  // first packed row; the tile has min(tile_q, qo_len * group_size - q_begin)
  i32 kv_begin;
  i32 kv_end;       // > kv_begin; equal where a kernel merges itself and the request has no KV
  i32 partial_row;  // first row of partial_o/partial_lse to write, or -1: write out/lse
  // The parts that the tile was split into lie one after the other, from this row on.
  i32 first_partial_row;  // -1 as partial_row
  i32 num_parts;          // 1 or more. -1: the device found the length not to fit, rows become NaN
};

// The partial results of up to a tile of packed rows, to be merged into out/lse, where the kernel
// does not merge itself. Part s of row i is in partial row `partial_row + s * part_stride + i`.
// num_parts 0 writes the identity (0, -inf): rows of a request without KV; -1 writes NaN: rows of
// one whose length the device found not to fit.
// In a cascade num_levels items, one after the other, are of the same rows: the parts of each
// level.
struct MergeItem {
  i32 request;
  i32 kv_head;
  i32 q_begin;
  i32 num_rows;
  i32 partial_row;
  i32 num_parts;
  i32 part_stride;
};

// The kernels that do batch attention.
enum class AttentionKernel : u8 { sm80, sm90, decode };
constexpr const char* literal(AttentionKernel k) {
  return k == AttentionKernel::sm80   ? "AttentionKernel::sm80"
         : k == AttentionKernel::sm90 ? "AttentionKernel::sm90"
                                      : "AttentionKernel::decode";
}

// custom: a user's score transform and mask, from a generated header (attention/variant.h).
enum class VariantKind : u8 { none, custom };

constexpr const char* literal(VariantKind kind) {
  return kind == VariantKind::none ? "VariantKind::none" : "VariantKind::custom";
}

constexpr int kMaxVariantTensors = 8;
constexpr int kMaxVariantScalars = 8;

// The values of a custom variant's arguments, in the order of their declaration.
struct VariantValues {
  const void* tensors[kMaxVariantTensors];
  u32 scalars[kMaxVariantScalars];  // bits of an f32 or i32
};

// The structure of one attention kernel: everything the compiler must know.
struct AttentionConfig {
  AttentionKernel kernel = AttentionKernel::sm80;
  DType q_dtype = DType::bf16;
  DType kv_dtype = DType::bf16;
  DType o_dtype = DType::bf16;
  i32 head_dim_qk = 128;
  i32 head_dim_vo = 128;
  i32 tile_q = 64;    // packed rows a work item: 16 * row_tiles * warps_q (decode: 8 * row_tiles)
  i32 tile_kv = 64;   // KV tokens a step
  i32 warps_q = 4;    // warps that share the rows
  i32 warps_kv = 1;   // warps that share the KV tokens of a step
  i32 row_tiles = 1;  // tiles of 16 rows (decode: 8) a warp
  i32 num_stages = 2;
  bool boxes = false;   // attention_sm90: q, k and v come as boxes, not row by row; decode: k and v
  bool aligned = true;  // every row of q, k, v and out starts at a multiple of 16 bytes
  bool widened = false;  // k and v are copies, of 16 bits, of an fp8 cache
  VariantKind variant = VariantKind::none;
  bool softmax =
      true;  // false: a transformed score is the weight of its v itself; no lse, no sinks

  bool operator==(const AttentionConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const AttentionConfig& c, Visitor&& visit) {
  visit("kernel", c.kernel);
  visit("q_dtype", c.q_dtype);
  visit("kv_dtype", c.kv_dtype);
  visit("o_dtype", c.o_dtype);
  visit("head_dim_qk", c.head_dim_qk);
  visit("head_dim_vo", c.head_dim_vo);
  visit("tile_q", c.tile_q);
  visit("tile_kv", c.tile_kv);
  visit("warps_q", c.warps_q);
  visit("warps_kv", c.warps_kv);
  visit("row_tiles", c.row_tiles);
  visit("num_stages", c.num_stages);
  visit("boxes", c.boxes);
  visit("aligned", c.aligned);
  visit("widened", c.widened);
  visit("variant", c.variant);
  visit("softmax", c.softmax);
}

// Whether the KV heads may have scales of their own.
constexpr bool has_head_scales(const AttentionConfig& c) { return is_fp8(c.kv_dtype) || c.widened; }

struct AttentionParams {
  const void* q;  // [total_q, num_qo_heads, head_dim_qk]
  const void* k;  // paged: [num_pages, page_size, num_kv_heads, head_dim_qk] by the strides below
  const void* v;  //        ragged: [total_kv, num_kv_heads, head_dim]
  void* out;      // [total_q, num_qo_heads, head_dim_vo]
  float* lse;     // [total_q, num_qo_heads] contiguous, or null
  i64 q_token_stride, q_head_stride;  // all strides in elements
  i64 k_page_stride, k_token_stride, k_head_stride;
  i64 v_page_stride, v_token_stride, v_head_stride;
  i64 out_token_stride, out_head_stride;

  const WorkItem* items;     // [worker_indptr[num_workers]]
  const i32* worker_indptr;  // [num_workers + 1]; null on the CPU: all items
  const MergeItem* merges;   // [num_merges], of which *merge_count are there
  const i32* merge_count;    // [1]; null on the CPU: all
  const i32* qo_indptr;      // [batch_size + 1], tokens
  const i32* kv_indptr;      // [batch_size + 1], pages, or tokens when ragged
  const i32* kv_lens;        // [batch_size], tokens
  const i32* kv_indices;     // [num_indices] page ids; null when ragged
  float* partial_o;          // [num_partial_rows, head_dim_vo], normalised, before v_scale(s)
  float* partial_lse;        // [num_partial_rows], base 2, without the sink
  // Parts that have arrived, of row r of the tile whose first partial row is 2 (i - r) or 2 (i - r)
  // + 1: of two parts at least, each row has a counter of its own. 0 between runs.
  u32* counters;              // [ceil(num_partial_rows / 2)]; decode only
  const u8* custom_mask;      // null: none
  const i32* mask_indptr;     // [batch_size + 1], bytes
  const float* sinks;         // [num_qo_heads], natural logarithm; null: none
  const float* alibi_slopes;  // [num_qo_heads]; null: none
  // Factors a head on top of sm_scale and v_scale; null: none, as always for tensors that are not
  // fp8.
  const float* q_scales;  // [num_qo_heads]
  const float* k_scales;  // [num_kv_heads]
  const float* v_scales;  // [num_kv_heads]

  float sm_scale;  // with the scalar scales of q and k folded in
  float v_scale;
  float logits_soft_cap;  // 0: none
  i32 causal;             // 0, 1
  i32 window_left;        // -1: none
  i32 lse_base_e;         // 1: lse is written to base e, 0: base 2

  // Bounds: a kernel stays inside them whatever the arrays above hold.
  i32 batch_size, num_qo_heads, num_kv_heads, group_size;
  i32 page_size;  // 0: ragged
  i32 num_pages;
  i32 total_q;
  i32 num_workers;
  i64 total_kv;  // ragged: rows of k and v
  i32 num_items, num_merges, num_indices, num_partial_rows;
  i64 mask_bytes;

  // Of a cascade, else 1 and 0. The first requests are groups, of the levels above the last: their
  // rows come after all of their tokens.
  i32 num_levels;
  i32 num_groups;

  i32 tile_rows;  // packed rows of a full work item; tile_q or less

  VariantValues variant;
};

}  // namespace quire::kernels
