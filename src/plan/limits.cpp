#include "plan/limits.h"

#include <string>

#include "quire/error.h"

namespace quire::plan {

void fail_work_items(std::int64_t count) {
  throw Error(ErrorCode::invalid_argument, "attention.plan: work items: got " +
                                               std::to_string(count) + ", expected at most " +
                                               std::to_string(kMaxInt32));
}

void fail_partial_rows(std::int64_t count) {
  throw Error(ErrorCode::invalid_argument,
              "attention.plan: partial rows of split KV: got " + std::to_string(count) +
                  " or more, expected at most " + std::to_string(kMaxInt32) +
                  "; a larger fixed_split_size needs fewer");
}

}  // namespace quire::plan
