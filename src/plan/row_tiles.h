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
  // In a cascade: some of its rows have tokens in another level too. Its results are partial, of
  // one part or more.
  bool is_joined = false;

  bool is_partial(std::int32_t num_parts) const {
    return num_parts > 1 || (is_joined && num_parts == 1);
  }
};

// In request order, then row order, in place of what `tiles` held. Throws Error when rows or tiles
// exceed 32 bits.
void row_tiles(const AttentionProblem& problem, const AttentionTile& tile,
               std::vector<RowTile>& tiles);

TokenRange visible_tokens(const AttentionProblem& problem, std::int32_t request,
                          std::int32_t q_begin, std::int32_t num_rows);

// Of a row of a request that is no group, by the balance hints.
double mean_visible_tokens(const AttentionProblem& problem, std::int32_t qo_len,
                           std::int32_t kv_len);

// Steps of tile_kv tokens, counted from `part.begin`, that a kernel takes for the visible tokens.
std::int64_t visible_steps(TokenRange part, TokenRange visible, int tile_kv);

// In tokens, as in kernels/attention/line_plan.h: an item's visible steps, its start and end, and
// its partial rows. One of floats is as many bytes as one 16-bit K and V token, hence one token to
// write and one to read back.
std::uint32_t cost_tokens(std::int64_t steps, const AttentionTile& tile,
                          std::int32_t num_partial_rows);

}  // namespace quire::plan
