#include "core/env.h"

#include <cstdlib>

namespace quire::env {

std::optional<std::string> get(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

bool flag(const char* name) {
  const auto value = get(name);
  return value && *value != "" && *value != "0" && *value != "false" && *value != "off";
}

}  // namespace quire::env
