// Reading and checking the host arrays of a plan: who has how many query rows and KV tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quire/attention.h"

namespace quire {

struct AttentionLengths {
  std::vector<std::int32_t> qo_indptr;  // [batch + 1], tokens
  std::vector<std::int32_t> kv_indptr;  // [batch + 1], pages, or tokens when ragged
  std::vector<std::int32_t> qo_lens;    // [batch]
  std::vector<std::int32_t> kv_lens;    // [batch], tokens
  // The largest page id and its position; -1 for ids on the device or no pages at all.
  std::int32_t largest_page = -1;
  std::int64_t largest_page_at = -1;
  // Of a cascade, else empty: the first request of each level. Between levels there is a request of
  // no rows and no tokens, from the last row to the first.
  std::vector<std::int32_t> first_requests;

  int num_levels() const {
    return first_requests.empty() ? 1 : static_cast<int>(first_requests.size());
  }
  // The requests of all levels but the last.
  int num_groups() const { return first_requests.empty() ? 0 : first_requests.back(); }
  int batch_size() const { return static_cast<int>(qo_lens.size()); }
  std::int64_t total_q() const { return qo_indptr.back(); }
  std::int64_t kv_entries() const { return kv_indptr.back(); }  // pages, or tokens when ragged
  // Which request entry `index` of kv_indices belongs to: "request 3", "request 3 of level 0".
  std::string owner_of_entry(std::int64_t index) const;
  std::string owner(std::ptrdiff_t request) const;
};

// In place of what `lengths` held. All throw invalid_argument or wrong_type. `device`: where
// kv_indices may be, beside the host.
void read_paged_lengths(const TensorView& qo_indptr, const PageTable& table, int page_size,
                        Device device, AttentionLengths& lengths);
void read_ragged_lengths(const TensorView& qo_indptr, const TensorView& kv_indptr,
                         AttentionLengths& lengths);
// Also throws for levels that do not have the same rows, or whose requests are not groups of
// those of the next level.
void read_cascade_lengths(std::span<const CascadeLevel> levels, int page_size, Device device,
                          AttentionLengths& lengths);

}  // namespace quire
