// Which kernel and tile a plan gets, asked of the backend once for each kind of plan.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "attention/attention_types.h"
#include "ops/attention_lengths.h"
#include "plan/attention.h"
#include "plan/kv_copy.h"
#include "quire/attention.h"

namespace quire {

struct AttentionTargetChoice {
  kernels::AttentionConfig config;
  plan::AttentionTile tile;
  kernels::AttentionConfig few;  // of the kernel that tile.few describes
  plan::KvCopyCost copy_cost;    // where prompts may gain by a copy of K and V
};

// Rows of q times heads of a group; the mean over requests with rows. 0 without any. In a cascade
// the mean is over tokens, for a group with many rows has as much work as its requests together;
// max is more than any kernel for decoding has.
struct PackedRows {
  double mean = 0, max = 0;
  double mean_long = 0;  // of requests of several tokens, where two kernels had better do the batch
  double tiles = 0;      // KV heads of all requests with rows; 0 in a cascade
  bool operator==(const PackedRows&) const = default;
};
PackedRows packed_rows(const AttentionLengths& lengths, int group_size, int num_kv_heads);
double mean_long_rows(const AttentionLengths& lengths, int group_size);

// Remembers the last answers: in a serving loop steps are of a few kinds, and asking costs strings
// and look-ups.
class AttentionTargets {
 public:
  // Compiles what is missing. copies_kv: for prompts that read a copy of K and V, where an answer
  // without had a copy_cost. Throws as BatchAttention::plan does for what has no kernel.
  AttentionTargetChoice choose(Device device, const AttentionShape& shape,
                               const AttentionPlanOptions& options, PackedRows rows,
                               bool copies_kv = false);

 private:
  struct Key {
    AttentionShape shape;
    PackedRows rows = {.mean = -1};
    int fixed_split_size = 0;
    bool copies_kv = false;
    std::string forced_kernel;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    AttentionTargetChoice choice;
  };
  std::array<Entry, 4> entries_;
  std::size_t oldest_ = 0;
};

}  // namespace quire
