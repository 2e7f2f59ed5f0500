// One work item of attention on one CPU thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/attention_types.h"

namespace quire::cpu {

inline constexpr int kMaxTileKv = 64;  // of a config

// Floats of scratch memory that one thread needs.
std::size_t attention_scratch_floats(const kernels::AttentionConfig& config);

// Online softmax over the item's KV in blocks of tile_kv tokens (Milakov and Gimelshein 2018),
// every token read once for all packed rows of the tile.
void attention_item(const kernels::AttentionConfig& config, const kernels::AttentionParams& params,
                    const kernels::WorkItem& item, float* scratch);

}  // namespace quire::cpu
