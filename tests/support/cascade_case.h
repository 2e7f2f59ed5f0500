// One cascade for the attention tests: levels in the pages of a pool, NaN in what nobody has, the
// operator's answer and that of attention over the joined tokens of all levels.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <vector>

#include "support/attention_case.h"

namespace quire::test {

// Rows and tokens of the groups of one level; of the requests in the last.
struct LevelLens {
  std::vector<int> qo_lens, kv_lens;
};

struct CascadeCase {
  AttentionCase base;  // its own lengths are not used
  std::vector<LevelLens> levels;
};

inline void PrintTo(const CascadeCase& c, std::ostream* out) { *out << c.base.name; }

// The page table of a level.
struct LevelTable {
  std::vector<std::int32_t> qo_indptr{0}, indptr{0}, indices, last_page_len;
};

// Its arrays where they are planned from.
struct LevelArrays {
  TestTensor qo_indptr, indptr, indices, last_page_len;
  CascadeLevel view() const { return {qo_indptr, {indptr, indices, last_page_len}}; }
};

class Cascade {
 public:
  explicit Cascade(const CascadeCase& c, std::uint64_t seed = 1);

  std::vector<CascadeLevel> levels() const;
  void plan(BatchAttention& attention) const;
  AttentionOptions options() const;
  void run(const BatchAttention& attention, const TestTensor& out, const TestTensor& lse,
           const AttentionOptions& options) const;
  TestTensor poisoned_out() const;
  TestTensor poisoned_lse() const;

  // Plans and runs with poisoned outputs and workspace; fails the current test when a guard was
  // overwritten.
  AttentionAnswer run() const;
  AttentionAnswer reference() const;

 private:
  void add_level(const LevelLens& lens);
  std::int64_t total_q() const { return tables_.back().qo_indptr.back(); }
  std::size_t group_of(std::size_t level, int row) const;
  // page * page_size + offset
  std::int64_t kv_row(std::size_t level, std::size_t group, int token) const;
  std::size_t index(std::int64_t row, int head, int width) const;
  void add_token(std::vector<double>& to, const std::vector<double>& pool, std::int64_t row,
                 int width) const;
  TestTensor pool(int width, std::uint64_t seed) const;

  CascadeCase case_;
  AttentionShape shape_;
  std::vector<LevelTable> tables_;
  std::int64_t num_pages_ = 1;  // one that nobody has
  std::optional<TestTensor> q_, k_, v_, sinks_;
  std::vector<LevelArrays> arrays_;
};

}  // namespace quire::test
