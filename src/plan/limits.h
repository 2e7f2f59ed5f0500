// Counts of a plan that must fit 32 bits. Both throw Error.
#pragma once

#include <cstdint>
#include <limits>

namespace quire::plan {

inline constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

[[noreturn]] void fail_work_items(std::int64_t count);
[[noreturn]] void fail_partial_rows(std::int64_t count);

inline void check_work_items(std::int64_t count) {
  if (count > kMaxInt32) fail_work_items(count);
}
inline void check_partial_rows(std::int64_t count) {
  if (count > kMaxInt32) fail_partial_rows(count);
}

}  // namespace quire::plan
