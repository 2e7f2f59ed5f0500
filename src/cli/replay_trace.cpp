#include "cli/replay_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <string_view>

#include "quire/error.h"

namespace quire::cli {
namespace {

[[noreturn]] void fail(const std::string& path, int line, const char* expected) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("replay: {}: got line {}, expected {}", path, line, expected));
}

// Reads a whole number and what is before it of spaces; false: there is none.
bool read_number(std::string_view& text, std::int64_t& value) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

// What follows `"key":`; empty: no such key.
std::string_view after_key(std::string_view line, std::string_view key) {
  const std::string quoted = fmt::format("\"{}\":", key);
  const std::size_t at = line.find(quoted);
  return at == std::string_view::npos ? std::string_view{} : line.substr(at + quoted.size());
}

bool is_length(std::int64_t value) {
  return value >= 0 && value <= std::numeric_limits<std::int32_t>::max();
}

bool read_json_line(std::string_view line, TraceRequest& request) {
  std::string_view input = after_key(line, "input_length");
  std::string_view output = after_key(line, "output_length");
  std::int64_t prompt = -1, answer = -1;
  if (!read_number(input, prompt) || !read_number(output, answer)) return false;
  if (!is_length(prompt) || !is_length(answer)) return false;
  request = {static_cast<std::int32_t>(prompt), static_cast<std::int32_t>(answer), {}};
  std::string_view ids = after_key(line, "hash_ids");
  ids.remove_prefix(std::min(ids.find('[') + 1, ids.size()));
  for (std::int64_t id = 0; read_number(ids, id);) {
    request.blocks.push_back(id);
    if (!ids.starts_with(',')) break;
    ids.remove_prefix(1);
  }
  return true;
}

// TIMESTAMP,ContextTokens,GeneratedTokens
bool read_csv_line(std::string_view line, TraceRequest& request) {
  line.remove_prefix(std::min(line.find(',') + 1, line.size()));
  std::int64_t prompt = -1, answer = -1;
  if (!read_number(line, prompt) || !line.starts_with(',')) return false;
  line.remove_prefix(1);
  if (!read_number(line, answer) || !is_length(prompt) || !is_length(answer)) return false;
  request = {static_cast<std::int32_t>(prompt), static_cast<std::int32_t>(answer), {}};
  return true;
}

}  // namespace

std::vector<TraceRequest> read_requests(const std::string& path, int count) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::io, fmt::format("replay: {}: cannot be read", path));
  const bool json = path.ends_with(".jsonl");
  std::vector<TraceRequest> requests;
  std::string line;
  for (int number = 1; static_cast<int>(requests.size()) < count && std::getline(file, line);
       ++number) {
    if (line.empty() || (!json && number == 1)) continue;  // a CSV has a header
    TraceRequest request;
    if (!(json ? read_json_line(line, request) : read_csv_line(line, request))) {
      fail(path, number,
           json ? "input_length and output_length" : "TIMESTAMP,ContextTokens,GeneratedTokens");
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

void shorten(std::vector<TraceRequest>& requests, int divisor) {
  for (TraceRequest& request : requests) {
    request.prompt = std::max(1, request.prompt / divisor);
    request.answer = std::max(1, request.answer / divisor);
  }
}

std::vector<std::int32_t> tokens_of(const TraceRequest& request, int index, int block_tokens) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(request.prompt) +
                                   static_cast<std::size_t>(request.answer));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::size_t block = i / static_cast<std::size_t>(block_tokens);
    const bool shared =
        block < request.blocks.size() && i < static_cast<std::size_t>(request.prompt);
    // Shared tokens are 0 and up, a request's own are below.
    const std::uint64_t number = shared ? static_cast<std::uint64_t>(request.blocks[block]) *
                                                  static_cast<std::uint64_t>(block_tokens) +
                                              i % static_cast<std::size_t>(block_tokens)
                                        : static_cast<std::uint64_t>(index) * 1'000'003 + i;
    const auto token = static_cast<std::int32_t>(number % std::numeric_limits<std::int32_t>::max());
    tokens[i] = shared ? token : -1 - token;
  }
  return tokens;
}

}  // namespace quire::cli
