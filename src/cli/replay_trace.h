// Request traces of serving systems: Azure's CSV, Mooncake's JSON lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire::cli {

struct TraceRequest {
  std::int32_t prompt = 0, answer = 0;  // tokens
  std::vector<std::int64_t> blocks;  // ids of the prompt's prefix blocks; empty: nobody shares it
};

// Tokens a prefix block stands for in Mooncake's traces.
inline constexpr int kTraceBlockTokens = 512;

// The first `count` requests of a file: columns ContextTokens and GeneratedTokens, or lines with
// input_length, output_length and hash_ids. Throws Error{io} or, naming the line, invalid_argument.
std::vector<TraceRequest> read_requests(const std::string& path, int count);

// Lengths and blocks `divisor` times shorter, at least one token.
void shorten(std::vector<TraceRequest>& requests, int divisor);

// The tokens of a request's prompt and answer: equal blocks have equal tokens, all else differs
// between requests. block_tokens: of a prefix block.
std::vector<std::int32_t> tokens_of(const TraceRequest& request, int index, int block_tokens);

}  // namespace quire::cli
