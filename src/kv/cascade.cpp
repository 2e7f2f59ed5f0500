#include "quire/cascade.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>

#include "core/check.h"

namespace quire {
namespace {

constexpr const char* kOp = "find_cascade";

using Ints = std::span<const std::int32_t>;

void check_at_least_1(std::string_view name, int value) {
  if (value < 1) check::fail(kOp, name, fmt::format("{}", value), "1 or more");
}

void check_entries(std::string_view name, std::size_t got, std::size_t expected) {
  if (got == expected) return;
  check::fail(kOp, name, fmt::format("{} entries", got), fmt::format("{}", expected));
}

void check_indptr(std::string_view name, Ints indptr) {
  if (indptr.empty()) check::fail(kOp, name, "0 entries", "batch + 1 entries");
  if (indptr[0] != 0) check::fail(kOp, name, fmt::format("{} at [0]", indptr[0]), "0");
  const auto down = std::ranges::is_sorted_until(indptr);
  if (down == indptr.end()) return;
  check::fail(kOp, name, fmt::format("{} at [{}] after {}", *down, down - indptr.begin(), down[-1]),
              "values that do not decrease");
}

void check_arguments(Ints qo_indptr, const KvPool::Table& table, int page_size,
                     const CascadeSearch& search) {
  check_at_least_1("page_size", page_size);
  check_at_least_1("min_shared_tokens", search.min_shared_tokens);
  check_at_least_1("max_levels", search.max_levels);
  check_indptr("qo_indptr", qo_indptr);
  check_entries("table.indptr", table.indptr.size(), qo_indptr.size());
  check_indptr("table.indptr", table.indptr);
  check_entries("table.last_page_len", table.last_page_len.size(), qo_indptr.size() - 1);
  check_entries("table.indices", table.indices.size(),
                static_cast<std::size_t>(table.indptr.back()));
}

// Requests [begin, end), of which pages [first_page, first_page + num_pages) are the same.
struct Group {
  std::size_t begin, end;
  std::int64_t first_page, num_pages;
};

class Search {
 public:
  Search(Ints qo_indptr, const KvPool::Table& table, int page_size, int min_shared_tokens)
      : qo_indptr_(qo_indptr),
        table_(table),
        page_size_(page_size),
        min_pages_((std::int64_t{min_shared_tokens} + page_size - 1) / page_size),
        taken_(batch_size(), 0) {}

  std::size_t batch_size() const { return qo_indptr_.size() - 1; }

  // Divides each group of the level above; whether any of the parts shares pages.
  bool divide(std::vector<Group>& groups) {
    std::vector<Group> parts;
    for (const Group& group : groups) {
      for (std::size_t r = group.begin; r < group.end; r = parts.back().end) {
        parts.push_back(run_from(r, group.end));
      }
    }
    for (const Group& part : parts) {
      for (std::size_t r = part.begin; r < part.end; ++r) taken_[r] += part.num_pages;
    }
    groups.swap(parts);
    return std::ranges::any_of(groups, [](const Group& g) { return g.num_pages > 0; });
  }

  CascadeTable level(const std::vector<Group>& groups) const {
    CascadeTable level{{0}, {{0}, {}, {}}};
    for (const Group& group : groups) {
      add(level, group, group.num_pages == 0 ? 0 : page_size_);
    }
    return level;
  }

  // The requests with the pages that no group has taken.
  CascadeTable own_level() const {
    CascadeTable level{{0}, {{0}, {}, {}}};
    for (std::size_t r = 0; r < batch_size(); ++r) {
      const Group own{r, r + 1, taken_[r], num_pages(r) - taken_[r]};
      add(level, own, own.num_pages == 0 ? 0 : table_.last_page_len[r]);
    }
    return level;
  }

 private:
  std::int64_t num_pages(std::size_t r) const { return table_.indptr[r + 1] - table_.indptr[r]; }

  // Full pages before the tokens of the request's rows.
  std::int64_t shareable(std::size_t r) const {
    if (num_pages(r) == 0) return 0;
    const std::int64_t tokens = (num_pages(r) - 1) * page_size_ + table_.last_page_len[r];
    return std::max<std::int64_t>(0, tokens - (qo_indptr_[r + 1] - qo_indptr_[r])) / page_size_;
  }

  // Pages that the request shares with the next one, behind those that are taken.
  std::int64_t shared_with_next(std::size_t r) const {
    const auto pages = [&](std::size_t request) {
      const std::int64_t count = std::max<std::int64_t>(0, shareable(request) - taken_[request]);
      return Ints(table_.indices)
          .subspan(static_cast<std::size_t>(table_.indptr[request] + taken_[request]),
                   static_cast<std::size_t>(count));
    };
    const Ints mine = pages(r), next = pages(r + 1);
    return std::ranges::mismatch(mine, next).in1 - mine.begin();
  }

  Group run_from(std::size_t begin, std::size_t limit) const {
    Group run{begin, begin + 1, taken_[begin], 0};
    std::int64_t shared = std::numeric_limits<std::int64_t>::max();
    for (; run.end < limit; ++run.end) {
      const std::int64_t pages = shared_with_next(run.end - 1);
      if (pages < min_pages_) break;
      shared = std::min(shared, pages);
    }
    if (run.end > begin + 1) run.num_pages = shared;
    return run;
  }

  void add(CascadeTable& level, const Group& group, std::int32_t last_page_len) const {
    const auto first = table_.indices.begin() + table_.indptr[group.begin] + group.first_page;
    std::vector<std::int32_t>& indices = level.table.indices;
    indices.insert(indices.end(), first, first + group.num_pages);
    level.qo_indptr.push_back(qo_indptr_[group.end]);
    level.table.indptr.push_back(static_cast<std::int32_t>(indices.size()));
    level.table.last_page_len.push_back(last_page_len);
  }

  Ints qo_indptr_;
  const KvPool::Table& table_;
  std::int32_t page_size_;
  std::int64_t min_pages_;
  std::vector<std::int64_t> taken_;  // [batch], pages of levels above
};

}  // namespace

CascadeLevel CascadeTable::view() {
  const auto ints = [](std::vector<std::int32_t>& values) {
    return TensorView::contiguous(values.data(), DType::i32,
                                  {static_cast<std::int64_t>(values.size())});
  };
  return {ints(qo_indptr), {ints(table.indptr), ints(table.indices), ints(table.last_page_len)}};
}

std::vector<CascadeTable> find_cascade(Ints qo_indptr, const KvPool::Table& table, int page_size,
                                       const CascadeSearch& search) {
  check_arguments(qo_indptr, table, page_size, search);
  Search levels(qo_indptr, table, page_size, search.min_shared_tokens);
  std::vector<CascadeTable> found;
  std::vector<Group> groups{{0, levels.batch_size(), 0, 0}};
  for (int l = 1; l < search.max_levels && levels.divide(groups); ++l) {
    found.push_back(levels.level(groups));
  }
  found.push_back(levels.own_level());
  return found;
}

void plan_cascade(BatchAttention& attention, const AttentionShape& shape, Ints qo_indptr,
                  const KvPool::Table& table, const AttentionPlanOptions& options,
                  const CascadeSearch& search, Stream stream) {
  std::vector<CascadeTable> found = find_cascade(qo_indptr, table, shape.page_size, search);
  std::vector<CascadeLevel> levels;
  levels.reserve(found.size());
  for (CascadeTable& level : found) levels.push_back(level.view());
  attention.plan_cascade(shape, levels, options, stream);
}

}  // namespace quire
