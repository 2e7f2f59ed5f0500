// Reading model directories: sharded ones, damaged ones, other configurations.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <functional>

#include "examples/generate_tokens.h"
#include "examples/random_model.h"
#include "quire/error.h"

namespace quire::test {
namespace {

using nlohmann::json;
using tinyllama::LlamaModel;

constexpr tinyllama::ModelLimits kLimits{
    .max_batch_tokens = 64, .max_requests = 4, .num_pages = 16, .page_size = 8};

TokenLists some_tokens(const std::filesystem::path& directory) {
  LlamaModel model(directory, kCpu, kLimits);
  return generate_tokens(model, {{.prompt = {256, 65, 66, 67}, .max_new_tokens = 8}});
}

TEST(ModelFiles, shards_give_the_same_model) {
  const TemporaryDirectory whole, sharded;
  write_tiny_model(whole.path());
  write_sharded_tiny_model(sharded.path());
  const TokenLists tokens = some_tokens(whole.path());
  EXPECT_EQ(tokens[0].size(), 8u);
  EXPECT_EQ(tokens, some_tokens(sharded.path()));
}

TEST(ModelFiles, an_output_projection_of_its_own_is_used) {
  const TemporaryDirectory directory;
  write_tiny_model(directory.path());
  const TokenLists tied = some_tokens(directory.path());
  json config = tiny_config();
  config["tie_word_embeddings"] = false;
  auto shapes = tensor_shapes(config);
  shapes["lm_head.weight"] = {264, 64};
  write_file(directory.path() / "config.json", config.dump());
  write_file(directory.path() / "model.safetensors", safetensors_bytes(shapes));
  EXPECT_NE(tied, some_tokens(directory.path()));
}

TEST(ModelFiles, newer_config_spells_rope_differently) {
  const TemporaryDirectory directory;
  json config = tiny_config();
  config.erase("rope_theta");
  config["eos_token_id"] = {257, 258};
  config["rope_parameters"] = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                               {"factor", 8.0},           {"low_freq_factor", 1.0},
                               {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  write_file(directory.path() / "config.json", config.dump());
  const auto read = tinyllama::read_llama_config(directory.path());
  EXPECT_EQ(read.rope.rope_theta, 500000.f);
  EXPECT_EQ(read.rope.rope_scale, 8.f);
  ASSERT_TRUE(read.rope.llama31.has_value());
  EXPECT_EQ(read.rope.llama31->old_context_len, 64.f);
  EXPECT_EQ(read.eos_token_ids, (std::vector<std::int32_t>{257, 258}));
}

// What is done to a good directory, and a part of the error that follows.
struct Damage {
  const char* name;
  std::function<void(const std::filesystem::path&)> apply;
  std::string text;
  ErrorCode code = ErrorCode::io;
};

Damage config_value(const char* name, const char* key, const json& value, const std::string& text,
                    ErrorCode code) {
  const auto apply = [key, value](const std::filesystem::path& directory) {
    json config = tiny_config();
    config[key] = value;
    write_file(directory / "config.json", config.dump());
  };
  return {name, apply, text, code};
}

Damage weights(const char* name, const std::function<std::string()>& bytes,
               const std::string& text) {
  return {name,
          [bytes](const std::filesystem::path& directory) {
            write_file(directory / "model.safetensors", bytes());
          },
          text};
}

std::string with_tensor(const std::string& dtype, const json& shape, const json& offsets) {
  return safetensors_bytes(json{{"model.embed_tokens.weight",
                                 {{"dtype", dtype}, {"shape", shape}, {"data_offsets", offsets}}}},
                           64);
}

std::string good_bytes() { return safetensors_bytes(tensor_shapes(tiny_config())); }

std::vector<Damage> config_damages() {
  const auto invalid = ErrorCode::invalid_argument, missing = ErrorCode::not_implemented;
  return {
      {"no config", [](auto& d) { std::filesystem::remove(d / "config.json"); },
       "config.json: cannot be opened"},
      {"config is no JSON", [](auto& d) { write_file(d / "config.json", "{"); }, "parse error"},
      {"config is a list", [](auto& d) { write_file(d / "config.json", "[1]"); }, "config.json: "},
      {"config lacks a size",
       [](auto& d) { write_file(d / "config.json", R"({"vocab_size": 8})"); }, "hidden_size"},
      config_value("other model", "model_type", "gpt2", "got gpt2, expected llama", missing),
      config_value("other activation", "hidden_act", "gelu", "got gelu, expected silu", missing),
      config_value("bias", "attention_bias", true, "attention_bias: got true", missing),
      config_value("other rope", "rope_scaling", {{"rope_type", "yarn"}}, "rope_type: got yarn",
                   missing),
      config_value("negative size", "head_dim", -16, "head_dim: got -16, expected at least 1",
                   invalid),
      config_value("heads do not divide", "num_key_value_heads", 3, "expected a multiple of 3",
                   invalid),
      config_value("text for a number", "vocab_size", "many", "type must be number", ErrorCode::io),
      config_value("other shape than the file", "intermediate_size", 80,
                   "mlp.gate_proj.weight: got shape [96, 64], expected [80, 64]", ErrorCode::io),
  };
}

std::vector<Damage> file_damages() {
  return {
      {"no weights", [](auto& d) { std::filesystem::remove(d / "model.safetensors"); },
       "model.safetensors: No such file or directory"},
      {"weights are a directory",
       [](auto& d) {
         std::filesystem::remove(d / "model.safetensors");
         std::filesystem::create_directory(d / "model.safetensors");
       },
       "model.safetensors: Is a directory"},
      weights(
          "empty file", [] { return std::string(); }, "shorter than 8 bytes"),
      weights(
          "a few bytes", [] { return std::string("abc"); }, "shorter than 8 bytes"),
      weights(
          "no safetensors", [] { return std::string(100, 'x'); }, "no safetensors file"),
      weights(
          "half a header", [] { return good_bytes().substr(0, 200); }, "truncated"),
      weights(
          "half the data", [] { return good_bytes().substr(0, good_bytes().size() / 2); },
          "truncated: "),
      weights(
          "one byte short", [] { return good_bytes().substr(0, good_bytes().size() - 1); },
          "truncated: "),
      weights(
          "header is no JSON", [] { return std::string("\4\0\0\0\0\0\0\0{{{{", 12); },
          "damaged header"),
  };
}

std::vector<Damage> header_damages() {
  return {
      weights(
          "no offsets", [] { return safetensors_bytes(json{{"a", {{"dtype", "F32"}}}}, 8); },
          "damaged header"),
      weights(
          "offsets backwards", [] { return with_tensor("F32", {2}, {8, 0}); },
          "is at bytes 8 to 0"),
      weights(
          "offsets outside", [] { return with_tensor("F32", {2}, {64, 72}); },
          "is at bytes 64 to 72 of 64"),
      weights(
          "wrong size", [] { return with_tensor("F32", {3}, {0, 8}); },
          "8 bytes do not hold F32 [3]"),
      weights(
          "ragged size", [] { return with_tensor("F32", {2}, {0, 9}); },
          "9 bytes do not hold F32 [2]"),
      weights(
          "negative shape", [] { return with_tensor("F32", {-2}, {0, 8}); },
          "8 bytes do not hold F32 [-2]"),
      weights(
          "huge shape", [] { return with_tensor("F32", {1LL << 40, 1LL << 40}, {0, 8}); },
          "do not hold"),
      weights(
          "other dtype", [] { return with_tensor("I64", {264, 64}, {0, 8}); },
          "got dtype I64, expected F32, F16 or BF16"),
      weights(
          "overlap",
          [] {
            const json first{{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {0, 8}}};
            const json second{{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {4, 12}}};
            return safetensors_bytes(json{{"a", first}, {"b", second}}, 12);
          },
          "two tensors share byte 4"),
      weights(
          "a tensor is missing",
          [] {
            auto shapes = tensor_shapes(tiny_config());
            shapes.erase("model.layers.1.mlp.up_proj.weight");
            return safetensors_bytes(shapes);
          },
          "tensor model.layers.1.mlp.up_proj.weight is missing"),
  };
}

std::vector<Damage> shard_damages() {
  return {
      {"index is no JSON", [](auto& d) { write_file(d / "model.safetensors.index.json", "]"); },
       "parse error"},
      {"index leaves the directory",
       [](auto& d) {
         write_file(d / "model.safetensors.index.json",
                    R"({"weight_map": {"a": "../model.safetensors"}})");
       },
       "'../model.safetensors' is not a file beside the index"},
      {"a shard is missing",
       [](auto& d) {
         write_file(d / "model.safetensors.index.json", R"({"weight_map": {"a": "b"}})");
       },
       "b: No such file or directory"},
      {"a shard lacks its tensor",
       [](auto& d) {
         write_file(d / "model.safetensors.index.json",
                    R"({"weight_map": {"a": "model.safetensors"}})");
       },
       "a is not in model.safetensors"},
  };
}

void expect_one_line(const std::vector<Damage>& damages) {
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    const TemporaryDirectory directory;
    write_tiny_model(directory.path());
    damage.apply(directory.path());
    try {
      LlamaModel(directory.path(), kCpu, kLimits);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(damage.text), std::string::npos) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(damage.code));
    }
  }
}

TEST(ModelFiles, damaged_configurations_give_one_line) { expect_one_line(config_damages()); }
TEST(ModelFiles, damaged_files_give_one_line) { expect_one_line(file_damages()); }
TEST(ModelFiles, contradicting_headers_give_one_line) { expect_one_line(header_damages()); }
TEST(ModelFiles, damaged_shards_give_one_line) { expect_one_line(shard_damages()); }

TEST(ModelFiles, the_program_fails_with_one_line_and_code_1) {
  const TemporaryDirectory directory;
  write_tiny_model(directory.path());
  json config = tiny_config();
  config["vocab_size"] = 32000;
  const TemporaryDirectory words;
  write_file(words.path() / "config.json", config.dump());
  const std::string model = " --model " + directory.path().string();
  const std::pair<std::string, std::string> calls[] = {
      {" --model /nonexistent --prompt a", "config.json: cannot be opened"},
      {model, "got no prompt"},
      {model + " --prompts /nonexistent", "/nonexistent: cannot be opened"},
      {model + " --prompt-ids 1,x", "got '1,x', expected numbers"},
      {model + " --prompt-ids 1,", "got '1,', expected numbers"},
      {model + " --prompt-ids 1,9999", "token id: got 9999, expected 0 to 263"},
      {model + " --prompt a --device tpu", "tpu"},
      {model + " --prompt a -n 200", "expected at most 128 positions"},
      {" --prompt a --model " + words.path().string(), "expected --prompt-ids"},
  };
  // A bundle for another machine has the program elsewhere than where it was built.
  const char* moved = std::getenv("QUIRE_TINYLLAMA");
  const std::string program = moved ? moved : TINYLLAMA_PROGRAM;
  for (const auto& [arguments, text] : calls) {
    SCOPED_TRACE(arguments);
    std::FILE* pipe = ::popen((program + arguments + " 2>&1").c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string output;
    for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
    const int status = ::pclose(pipe);
    EXPECT_EQ(WEXITSTATUS(status), 1);
    EXPECT_NE(output.find(text), std::string::npos) << output;
    EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << output;
  }
}

// Prompts with their own settings in one batch draw what they draw alone.
TEST(ModelFiles, sampling_depends_on_the_request_alone) {
  const TemporaryDirectory directory;
  write_tiny_model(directory.path());
  LlamaModel model(directory.path(), kCpu, kLimits);
  std::vector<tinyllama::Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back({.prompt = {256, 65 + i, 70},
                        .max_new_tokens = 12,
                        .temperature = 0.5f * static_cast<float>(i),
                        .top_p = 0.9f,
                        .seed = 7 + i});
  }
  const TokenLists together = generate_tokens(model, requests);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(generate_tokens(model, {requests[i]})[0], together[i]) << i;
  }
  requests[3].seed = 1234;
  EXPECT_NE(generate_tokens(model, {requests[3]})[0], together[3]);
}

}  // namespace
}  // namespace quire::test
