// Which kernel and tile a shape gets: the dispatch table of attention on CUDA.
#pragma once

#include <string>
#include <vector>

#include "attention/attention_types.h"
#include "plan/kv_copy.h"

namespace quire::cuda {

// What the choice depends on.
struct AttentionDemand {
  kernels::AttentionConfig shape;  // dtypes, head dims, variant, softmax; the rest is filled in
  double mean_packed_rows = 0;     // of qo_len * group_size, over requests with rows
  double max_packed_rows = 0;
  double mean_long_rows = 0;   // of requests of several tokens, where two kernels had better do all
  bool beside_decode = false;  // does attention_decode run at the same time
  bool copies_kv = false;      // prompts read a copy of K and V in one piece (attention_copy_kv)
  int group_size = 1;
  int page_size = 0;         // 0: ragged
  int fixed_split_size = 0;  // tokens; 0: split points are multiples of tile_kv
  double num_tiles = 0;      // of a request and KV head each; 0: few
  int compute_major = 8;     // of the device
  int num_sms = 1;           // of the device
};

// Empty when there is a kernel for the demand, else "argument: got X, expected Y".
std::string attention_unsupported(const AttentionDemand& demand);

// What `config`, the kernel over the caller's K and V, loses against one over a copy; nothing on
// GPUs, and of kernels, that gain nothing.
plan::KvCopyCost copy_cost(const kernels::AttentionConfig& config);

// A kernel and tile that serves a demand, and why it stands where it does.
struct AttentionChoice {
  kernels::AttentionConfig config;
  const char* reason;
};

// A number of packed rows, mean or most, that gets the same choices: as few numbers as the table
// tells apart.
double rows_class(double packed_rows);
// The same for a number of tiles.
double tiles_class(double num_tiles, int num_sms);

// Best first; the first whose shared memory fits the device is taken. QUIRE_FORCE_KERNEL=sm80,
// =sm90 or =decode leaves only that kernel: none may be left. Throws invalid_argument for other
// values.
std::vector<AttentionChoice> attention_choices(const AttentionDemand& demand);

// The kernel for tensors that boxes cannot describe, or whose rows are not all 16-byte aligned, in
// place of one that was planned.
kernels::AttentionConfig row_attention(kernels::AttentionConfig planned, bool aligned);

// Packed rows of a full work item: tile_q, less where boxes bring whole groups.
int attention_tile_rows(const kernels::AttentionConfig& config, int group_size);

int attention_smem_bytes(const kernels::AttentionConfig& config);
int attention_threads(const kernels::AttentionConfig& config);

}  // namespace quire::cuda
