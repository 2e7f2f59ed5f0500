#include "jit/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

namespace quire::jit {

std::string hash_hex(const std::vector<std::string_view>& parts) {
  std::string text;
  for (const std::string_view part : parts) {
    // With lengths, {"ab", "c"} and {"a", "bc"} differ.
    text += fmt::format("{}:", part.size());
    text += part;
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace quire::jit
