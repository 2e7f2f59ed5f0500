// Batches and dtypes that many attention tests begin with; small on the emulator.
#pragma once

#include <string>
#include <vector>

#include "support/attention_case.h"

namespace quire::test {

// Decode, append and prefill, empty query, empty KV, more queries than KV.
AttentionCase mixed(const std::string& name);
// The same KV, one row of q each.
AttentionCase decode(const std::string& name);

// Of q, k, v and out.
void set_dtype(AttentionCase& c, DType dtype);
// Those that the device under test has.
std::vector<DType> dtypes();

}  // namespace quire::test
