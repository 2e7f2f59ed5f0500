#include "byte_tokenizer.h"

namespace tinyllama {

bool has_byte_vocabulary(const LlamaConfig& config) {
  constexpr int kNumBytes = 256, kMaxSpecials = 64;
  return config.vocab_size >= kNumBytes && config.vocab_size <= kNumBytes + kMaxSpecials &&
         (config.bos_token_id < 0 || config.bos_token_id >= kNumBytes);
}

std::vector<std::int32_t> encode_bytes(std::string_view text, const LlamaConfig& config) {
  std::vector<std::int32_t> tokens;
  if (config.bos_token_id >= 0) tokens.push_back(config.bos_token_id);
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  return tokens;
}

std::optional<char> printable_byte(std::int32_t token) {
  if (token < 0 || token > 255) return std::nullopt;
  const bool is_control = (token < 32 && token != '\n' && token != '\t') || token == 127;
  return is_control ? '?' : static_cast<char>(token);
}

}  // namespace tinyllama
