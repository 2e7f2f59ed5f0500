// Tiles of packed rows, what they see of the KV, and what that costs.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/attention.h"

namespace quire::plan {

// Tokens [begin, end).
struct TokenRange {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

// Up to tile_q packed rows of one request. Every KV head has the same tiles.
struct RowTile {
  std::int32_t request;
  std::int32_t q_begin;  // first packed row
  std::int32_t num_rows;
  std::int32_t kv_len;
  TokenRange visible;  // by the balance hints; the kernel skips the rest
};

// In request order, then row order. Throws Error when rows or tiles exceed 32 bits.
std::vector<RowTile> row_tiles(const AttentionProblem& problem, const AttentionTile& tile);

TokenRange visible_tokens(const AttentionProblem& problem, std::int32_t request,
                          std::int32_t q_begin, std::int32_t num_rows);

// Steps of tile_kv tokens, counted from `part.begin`, that a kernel takes for the visible tokens.
std::int64_t visible_steps(TokenRange part, TokenRange visible, int tile_kv);

// Costs are in tokens: the time a worker takes for one K and V token of a full tile.
//
// An item costs its visible steps and half a step for its start and end. A partial row of floats is
// as many bytes as one 16-bit K and V token, hence one token to write and one to read back.
std::uint32_t cost_tokens(std::int64_t steps, int tile_kv, std::int32_t num_partial_rows);

// The second launch that merges partial results costs about as much as this many steps.
inline constexpr int kMergeLaunchSteps = 2;

// A kernel that merges itself needs about as long as for this many tokens: a fence, an atomic and
// the partial results of others, 1.8 us on an H100.
inline constexpr int kMergeStartTokens = 80;

}  // namespace quire::plan
