#include "plan/kv_copy.h"

#include <algorithm>
#include <numeric>

#include "plan/row_tiles.h"

namespace quire::plan {
namespace {

// Calls f(request, packed rows) for each of more than most_few rows.
template <class F>
void for_each_copied(const AttentionProblem& problem, std::int64_t most_few, F&& f) {
  for (std::size_t r = 0; r < problem.qo_lens.size(); ++r) {
    const std::int64_t rows = std::int64_t{problem.qo_lens[r]} * problem.group_size;
    if (rows > std::max<std::int64_t>(most_few, 0)) f(r, rows);
  }
}

}  // namespace

bool copying_pays(const AttentionProblem& problem, std::int64_t most_few, const KvCopyCost& cost) {
  if (cost.lost == 0) return false;
  double gain = -cost.start / problem.num_kv_heads;
  for_each_copied(problem, most_few, [&](std::size_t r, std::int64_t rows) {
    const double visible = mean_visible_tokens(problem, problem.qo_lens[r], problem.kv_lens[r]);
    gain += cost.lost * static_cast<double>(rows) * visible - cost.token * problem.kv_lens[r];
  });
  return gain > 0;
}

std::int64_t num_copied_tokens(const AttentionProblem& problem, std::int64_t most_few) {
  std::int64_t tokens = 0;
  for_each_copied(problem, most_few,
                  [&](std::size_t r, std::int64_t) { tokens += problem.kv_lens[r]; });
  return tokens;
}

void place_copied_tokens(const AttentionProblem& problem, std::int64_t most_few,
                         std::vector<std::int32_t>& indptr) {
  indptr.assign(problem.qo_lens.size() + 1, 0);
  for_each_copied(problem, most_few,
                  [&](std::size_t r, std::int64_t) { indptr[r + 1] = problem.kv_lens[r]; });
  std::partial_sum(indptr.begin(), indptr.end(), indptr.begin());
}

}  // namespace quire::plan
