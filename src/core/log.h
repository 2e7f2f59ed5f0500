// Log to stderr, off unless QUIRE_LOG is "error", "info" or "debug".
#pragma once

#include <string_view>

namespace quire::log {

enum class Level { error, info, debug };
bool enabled(Level level);
void write(Level level, std::string_view text);

}  // namespace quire::log
