// quire replay: reading traces, the serving loop, and the program as a whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "cli/replay_loop.h"
#include "cli/replay_trace.h"
#include "support/expect_error.h"

namespace quire::cli {
namespace {

class Replay : public testing::Test {
 protected:
  Replay() { std::filesystem::create_directories(folder_); }
  ~Replay() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path) << text;
    return path.string();
  }
  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / "quire_replay_test";
};

constexpr const char* kCsv =
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.68,374,44\n"
    "2023-11-16 18:15:50.99,396,109\n"
    "2023-11-16 18:15:51.20,20,3\n";

// Three requests with the same first block, two with the same second.
constexpr const char* kJson =
    "{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 4, \"hash_ids\": [7, 8, 9]}\n"
    "{\"timestamp\": 5, \"input_length\": 1030, \"output_length\": 2, \"hash_ids\": [7, 8, 10]}\n"
    "{\"timestamp\": 9, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [7, 11]}\n";

TEST_F(Replay, ReadsBothKindsOfTraces) {
  const auto azure = read_requests(write("a.csv", kCsv), 2);
  ASSERT_EQ(azure.size(), 2u);
  EXPECT_EQ(azure[1].prompt, 396);
  EXPECT_EQ(azure[1].answer, 109);
  EXPECT_TRUE(azure[1].blocks.empty());
  const auto mooncake = read_requests(write("m.jsonl", kJson), 100);
  ASSERT_EQ(mooncake.size(), 3u);
  EXPECT_EQ(mooncake[2].prompt, 600);
  EXPECT_EQ(mooncake[2].answer, 1);
  EXPECT_EQ(mooncake[1].blocks, (std::vector<std::int64_t>{7, 8, 10}));
}

TEST_F(Replay, BadLinesAreNamed) {
  const std::string csv = write("bad.csv", std::string(kCsv) + "2023,12\n");
  const std::string json = write("bad.jsonl", "{\"input_length\": 3}\n");
  test::expect_errors({
      {[&] { read_requests(csv, 100); }, ErrorCode::invalid_argument,
       "replay: " + csv + ": got line 5, expected TIMESTAMP,ContextTokens,GeneratedTokens"},
      {[&] { read_requests(json, 100); }, ErrorCode::invalid_argument,
       "replay: " + json + ": got line 1, expected input_length and output_length"},
      {[&] { read_requests("no_such_file.csv", 1); }, ErrorCode::io,
       "replay: no_such_file.csv: cannot be read"},
  });
}

TEST_F(Replay, EqualBlocksHaveEqualTokens) {
  const auto requests = read_requests(write("m.jsonl", kJson), 100);
  const auto a = tokens_of(requests[0], 0, kTraceBlockTokens);
  const auto b = tokens_of(requests[1], 1, kTraceBlockTokens);
  ASSERT_EQ(a.size(), 1104u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 1024, b.begin()));
  for (std::size_t i = 1024; i < b.size(); ++i) EXPECT_NE(a[i], b[i]);
}

// What the loop does with each request, by its sequence's steps.
struct Seen {
  std::int64_t rows = 0;
  std::size_t steps = 0, largest_batch = 0;
};

Seen run_all(ServingLoop& loop, KvPool& pool, const LoopLimits& limits) {
  Seen seen;
  std::map<SequenceId, std::int32_t> lens;
  while (const auto step = loop.begin_step()) {
    EXPECT_LE(step->rows(), limits.max_step_tokens);
    EXPECT_LE(static_cast<int>(step->ids.size()), limits.max_batch);
    const KvPool::Table table = pool.table(step->ids);
    for (std::size_t r = 0; r < step->ids.size(); ++r) {
      EXPECT_GE(step->qo_lens[r], 1);
      EXPECT_EQ(step->kv_lens[r], pool.num_tokens(step->ids[r]));
      std::int32_t& len = lens[step->ids[r]];
      EXPECT_GE(step->kv_lens[r] - step->qo_lens[r], len);  // more, by a cached prefix
      len = step->kv_lens[r];
    }
    EXPECT_EQ(table.indptr.size(), step->ids.size() + 1);
    seen.rows += step->rows();
    ++seen.steps;
    seen.largest_batch = std::max(seen.largest_batch, step->ids.size());
    loop.end_step();
  }
  return seen;
}

TEST_F(Replay, ServesEveryRequestToItsEnd) {
  const auto requests = read_requests(write("a.csv", kCsv), 100);
  KvPool pool(100, 16);
  constexpr LoopLimits kLimits{.max_batch = 2, .max_step_tokens = 128};
  ServingLoop loop(requests, kTraceBlockTokens, pool, kLimits);
  const Seen seen = run_all(loop, pool, kLimits);
  EXPECT_EQ(loop.counts().completed, 3);
  EXPECT_EQ(loop.counts().preempted, 0);
  EXPECT_EQ(loop.counts().prompt_tokens, 374 + 396 + 20);
  EXPECT_EQ(loop.counts().answer_tokens, 43 + 108 + 2);  // the last token is not attended from
  EXPECT_EQ(seen.rows, loop.counts().prompt_tokens + loop.counts().answer_tokens);
  EXPECT_EQ(seen.largest_batch, 2u);
  EXPECT_EQ(pool.stats().pages_in_use, 0);
}

TEST_F(Replay, PrefixBlocksSharePages) {
  const auto requests = read_requests(write("m.jsonl", kJson), 100);
  KvPool pool(400, 16);
  constexpr LoopLimits kLimits{.max_batch = 1, .max_step_tokens = 4096};
  ServingLoop loop(requests, kTraceBlockTokens, pool, kLimits);
  run_all(loop, pool, kLimits);
  EXPECT_EQ(loop.counts().completed, 3);
  EXPECT_EQ(pool.stats().prefix_hit_tokens, 1024 + 512);
  EXPECT_EQ(loop.counts().prompt_tokens, 1100 + (1030 - 1024) + (600 - 512));
}

TEST_F(Replay, WithoutPagesTheLastRequestWaits) {
  std::vector<TraceRequest> requests(4, {.prompt = 30, .answer = 60, .blocks = {}});
  KvPool pool(8, 16);  // one request and a half
  constexpr LoopLimits kLimits{.max_batch = 4, .max_step_tokens = 64};
  ServingLoop loop(requests, kTraceBlockTokens, pool, kLimits);
  run_all(loop, pool, kLimits);
  EXPECT_EQ(loop.counts().completed, 4);
  EXPECT_GT(loop.counts().preempted, 0);
  EXPECT_EQ(pool.stats().pages_in_use, 0);
  KvPool small(5, 16);
  test::expect_error([&] { ServingLoop(requests, kTraceBlockTokens, small, kLimits); },
                     ErrorCode::invalid_argument,
                     "replay: --pool-tokens: got 80, expected at least 90: request 0");
}

TEST_F(Replay, TheProgramWritesAPictureAndALineAStep) {
  const std::string trace = write("a.csv", kCsv), svg = (folder_ / "balance.svg").string(),
                    csv = (folder_ / "steps.csv").string(), out = (folder_ / "out").string();
  const std::string command = std::string(QUIRE_PROGRAM) + " replay " + trace +
                              " --shorten 8 --gbps 100 --svg " + svg + " --csv " + csv + " > " +
                              out;
  ASSERT_EQ(std::system(command.c_str()), 0);
  const auto text_of = [](const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  };
  EXPECT_NE(text_of(out).find("3 requests completed in"), std::string::npos) << text_of(out);
  EXPECT_NE(text_of(out).find("% of the limit"), std::string::npos);
  EXPECT_TRUE(text_of(svg).starts_with("<svg "));
  const std::string lines = text_of(csv);
  EXPECT_TRUE(
      lines.starts_with("step,requests,rows,plan_us,layer_us,bytes,flops,limit_us,balance"));
  EXPECT_GE(std::ranges::count(lines, '\n'), 14);  // 109 / 8 answer tokens at least
}

}  // namespace
}  // namespace quire::cli
