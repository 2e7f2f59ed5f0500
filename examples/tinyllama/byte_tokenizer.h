// The vocabulary of the example's model: a token is a byte; ids from 256 on are special.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama_config.h"

namespace tinyllama {

// Whether the model's vocabulary can be that: 256 bytes and few more, bos not among them.
bool has_byte_vocabulary(const LlamaConfig& config);

std::vector<std::int32_t> encode_bytes(std::string_view text, const LlamaConfig& config);

// The byte of a token as it may be sent to a terminal: nothing for special tokens, '?' for control
// characters other than line break and tab.
std::optional<char> printable_byte(std::int32_t token);

}  // namespace tinyllama
