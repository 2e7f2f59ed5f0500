#include "core/log.h"

#include <cstdio>
#include <string>

#include "core/env.h"

namespace quire::log {
namespace {

constexpr const char* kLevelNames[] = {"error", "info", "debug"};

}  // namespace

bool enabled(Level level) {
  const auto chosen = env::get("QUIRE_LOG");
  if (!chosen) return false;
  for (int i = static_cast<int>(level); i <= static_cast<int>(Level::debug); ++i) {
    if (*chosen == kLevelNames[i]) return true;
  }
  return false;
}

void write(Level level, std::string_view text) {
  if (!enabled(level)) return;
  // One call a line, so that lines of several threads do not mix.
  std::string line = std::string("quire ") + kLevelNames[static_cast<int>(level)] + ": ";
  line.append(text).push_back('\n');
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace quire::log
