// Host and device types of planning attention on the device.
#pragma once

#include "attention/line_plan.h"

namespace quire::kernels {

struct AttentionPlanConfig {
  i32 threads = 512;
};

template <class Visitor>
constexpr void visit_fields(const AttentionPlanConfig& c, Visitor&& visit) {
  visit("threads", c.threads);
}

// Of shared memory: one sum a thread.
constexpr int plan_smem_bytes(const AttentionPlanConfig& c) {
  return c.threads * static_cast<int>(sizeof(LineSums));
}

struct AttentionPlanParams {
  LineProblem line;
  const i32* seq_lens;     // [batch_size]
  const i32* page_indptr;  // [batch_size + 1]; null: max_pages for each request
  i32 max_pages;
  i32 num_indices;  // page ids of the table
  i32 page_size;
  i32 qo_len;  // rows of q of each request

  // Room. Requests past batch_size, up to max_batch_size, become empty.
  i32 max_batch_size;
  i32 max_items, max_merges, max_partial_rows;

  // The plan.
  WorkItem* items;     // [max_items]
  u32* counters;       // [ceil(max_partial_rows / 2)], become 0; only where line.merges_itself
  i32* worker_indptr;  // [num_workers + 1]
  MergeItem* merges;   // [max_merges]
  i32* merge_count;    // [1]
  i32* qo_indptr;      // [max_batch_size + 1]
  i32* kv_indptr;      // [max_batch_size + 1]
  i32* kv_lens;        // [max_batch_size]; -1: does not fit
  i32* first_bad;      // [1] request with a length that does not fit; kNoBadRequest

  // Scratch.
  LineSums* sums;         // [max_batch_size + 1]
  i64* loads;             // [num_workers], without cuts
  LineCut* cuts;          // [num_workers + 1]
  LineCutSums* cut_sums;  // [num_workers + 1], each boundary included
  i32* first_cuts;        // [num_workers + 1] boundaries that are a tile's first
};

constexpr i32 kNoBadRequest = 0x7fffffff;

}  // namespace quire::kernels
