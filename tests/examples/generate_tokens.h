// Runs requests through the example's engine.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"

namespace quire::test {

using TokenLists = std::vector<std::vector<std::int32_t>>;

// What each request generated; serves them all at once.
inline TokenLists generate_tokens(tinyllama::LlamaModel& model,
                                  const std::vector<tinyllama::Request>& requests,
                                  bool share_prefixes = true,
                                  tinyllama::EngineStats* stats = nullptr) {
  tinyllama::Engine engine(model, share_prefixes);
  for (const auto& request : requests) engine.add(request);
  TokenLists tokens(requests.size());
  const auto on_token = [&](std::size_t request, std::int32_t token, bool) {
    tokens[request].push_back(token);
  };
  while (engine.step(on_token)) {
  }
  if (stats) *stats = engine.stats();
  return tokens;
}

}  // namespace quire::test
