// The levels of a cascade as one batch: groups first, requests last.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

#include "core/check.h"
#include "ops/attention_lengths.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan_cascade";
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

// Every boundary of a level is one of the next.
void check_groups(const AttentionLengths& groups, const AttentionLengths& next, std::size_t level) {
  if (groups.total_q() != next.total_q()) {
    check::fail(kOp, "qo_indptr",
                fmt::format("{} rows of level {}, {} of level {}", groups.total_q(), level,
                            next.total_q(), level + 1),
                "the same number");
  }
  for (std::size_t g = 0; g < groups.qo_indptr.size(); ++g) {
    const std::int32_t boundary = groups.qo_indptr[g];
    if (std::ranges::binary_search(next.qo_indptr, boundary)) continue;
    check::fail(kOp, "qo_indptr", fmt::format("{} at [{}] of level {}", boundary, g, level),
                fmt::format("entries of level {}: groups are of whole requests", level + 1));
  }
}

// A row's place is behind its tokens, in 31 bits.
void check_lengths(const AttentionLengths& level) {
  for (std::size_t r = 0; r < level.qo_lens.size(); ++r) {
    const std::int64_t end = std::int64_t{level.kv_lens[r]} + level.qo_lens[r];
    if (end <= kMaxInt32) continue;
    check::fail(kOp, "kv_indptr", fmt::format("{} tokens and rows for request {}", end, r),
                fmt::format("at most {}", kMaxInt32));
  }
}

// `level` after what `all` has.
void append(const AttentionLengths& level, AttentionLengths& all) {
  const bool is_first = all.qo_indptr.empty();
  const std::int64_t entries = is_first ? 0 : all.kv_entries();
  if (entries + level.kv_entries() > kMaxInt32) {
    check::fail(kOp, "kv_indptr", fmt::format("{} pages", entries + level.kv_entries()),
                fmt::format("at most {} in all levels", kMaxInt32));
  }
  if (!is_first) {  // a request from the last row of one level to the first of the next
    all.qo_lens.push_back(0);
    all.kv_lens.push_back(0);
  }
  all.first_requests.push_back(static_cast<std::int32_t>(all.qo_lens.size()));
  const auto join = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  join(all.qo_indptr, level.qo_indptr);
  join(all.qo_lens, level.qo_lens);
  join(all.kv_lens, level.kv_lens);
  for (const std::int32_t begin : level.kv_indptr) {
    all.kv_indptr.push_back(static_cast<std::int32_t>(entries + begin));
  }
  if (level.largest_page > all.largest_page) {
    all.largest_page = level.largest_page;
    all.largest_page_at = entries + level.largest_page_at;
  }
}

// Says of which level an error is.
AttentionLengths read_level(const CascadeLevel& level, std::size_t index, int page_size,
                            Device device) {
  AttentionLengths lengths;
  try {
    read_paged_lengths(level.qo_indptr, level.table, page_size, device, lengths);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{} (level {})", error.what(), index));
  }
  check_lengths(lengths);
  return lengths;
}

}  // namespace

void read_cascade_lengths(std::span<const CascadeLevel> levels, int page_size, Device device,
                          AttentionLengths& lengths) {
  if (levels.empty()) check::fail(kOp, "levels", "none", "one or more");
  lengths = {};
  AttentionLengths previous;
  for (std::size_t l = 0; l < levels.size(); ++l) {
    AttentionLengths level = read_level(levels[l], l, page_size, device);
    if (l > 0) check_groups(previous, level, l - 1);
    append(level, lengths);
    previous = std::move(level);
  }
}

}  // namespace quire
