#include "jit/resource_report.h"

#include <algorithm>
#include <charconv>

namespace quire::jit {
namespace {

// The number that stands before each `unit` of the text, one after the other.
template <class Use>
void each_number_before(std::string_view text, std::string_view unit, Use&& use) {
  for (std::size_t at = text.find(unit); at != text.npos; at = text.find(unit, at + 1)) {
    std::size_t begin = at;
    while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9') --begin;
    int value = 0;
    if (std::from_chars(text.data() + begin, text.data() + at, value).ec == std::errc{}) use(value);
  }
}

}  // namespace

void read_resource_report(std::string_view log, CompiledKernel& kernel) {
  const auto largest = [](int& field) {
    return [&field](int value) { field = std::max(field, value); };
  };
  const auto sum = [](int& field) {
    return [&field](int value) { field = std::max(field, 0) + value; };
  };
  each_number_before(log, " registers", largest(kernel.registers));
  each_number_before(log, " bytes stack frame", largest(kernel.local_bytes));
  each_number_before(log, " bytes spill stores", sum(kernel.spill_bytes));
  each_number_before(log, " bytes spill loads", sum(kernel.spill_bytes));
  // ptxas leaves shared memory out when there is none.
  if (kernel.registers >= 0) kernel.static_smem_bytes = 0;
  each_number_before(log, " bytes smem", largest(kernel.static_smem_bytes));
}

}  // namespace quire::jit
