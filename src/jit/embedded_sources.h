// The text of every file under kernels/, by its path there.
#pragma once

#include <span>
#include <string_view>

namespace quire::jit {

struct EmbeddedSource {
  std::string_view path;  // "attention/attention_sm80.cuh"
  std::string_view text;
};

std::span<const EmbeddedSource> embedded_sources();

}  // namespace quire::jit
