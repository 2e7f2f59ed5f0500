// Whether prompts had better read a copy of K and V, in one piece and of 16 bits, than pages that
// the kernel gathers or converts: once for each tile of rows, which the copy pays once.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/attention.h"

namespace quire::plan {

// In the time that a packed row takes for a token of one KV head, from a copy.
struct KvCopyCost {
  double lost = 0;   // what it takes longer without; 0: there is nothing to gain
  double token = 0;  // of copying a token of one KV head
  double start = 0;  // of the copying kernel
};

// Of the requests with more than most_few packed rows, which alone read the copy.
bool copying_pays(const AttentionProblem& problem, std::int64_t most_few, const KvCopyCost& cost);

// Of those requests.
std::int64_t num_copied_tokens(const AttentionProblem& problem, std::int64_t most_few);

// Where their tokens lie in the copy: indptr [batch + 1], in place of what it held; the others have
// none. Not more than 2^31 - 1 tokens.
void place_copied_tokens(const AttentionProblem& problem, std::int64_t most_few,
                         std::vector<std::int32_t>& indptr);

}  // namespace quire::plan
