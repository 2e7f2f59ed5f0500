#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire::jit {

// 128-bit XXH3 of the parts and their lengths, as 32 hexadecimal digits.
std::string hash_hex(const std::vector<std::string_view>& parts);

}  // namespace quire::jit
