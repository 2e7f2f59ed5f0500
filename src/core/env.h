// Environment variables of the library. Read when needed, never cached.
#pragma once

#include <optional>
#include <string>

namespace quire::env {

std::optional<std::string> get(const char* name);
bool flag(const char* name);  // set and not "0", "", "false", "off"

}  // namespace quire::env
