#include "support/attention_variants.h"

#include <cmath>
#include <cstddef>

namespace quire::test {
namespace {

double at(const std::vector<double>& values, int index) {
  return values[static_cast<std::size_t>(index)];
}

}  // namespace

VariantCase alibi_variant(int num_qo_heads) {
  std::vector<double> slopes;
  for (int head = 0; head < num_qo_heads; ++head) slopes.push_back(std::exp2(-head - 1.0));
  return {.variant = {.name = "alibi",
                      .source = R"(struct Variant {
  struct Row {
    float slope;
    int position;
  };
  static Row row(const Arguments& args, const QueryRow& row) {
    return {args.slopes[row.qo_head], row.position};
  }
  static float logits(const Arguments&, const Row& row, float score, int kv_token) {
    return score + row.slope * (kv_token - row.position);
  }
};)",
                      .tensors = {{"slopes", DType::f32}}},
          .tensors = {slopes},
          .logits = [slopes](const ReferenceRow& row, double score, int kv_token) {
            return score + at(slopes, row.qo_head) * (kv_token - row.position);
          }};
}

VariantCase soft_cap_variant() {
  return {.variant = {.name = "soft_cap",
                      .source = R"(struct Variant {
  static float logits(const Arguments& args, const QueryRow&, float score, int) {
    return args.cap * tanh_f32(score / args.cap);
  }
};)",
                      .scalars = {{"cap", DType::f32}}},
          .scalars = {0.75},
          .logits = [](const ReferenceRow&, double score, int) {
            return 0.75 * std::tanh(score / 0.75);
          }};
}

VariantCase sigmoid_variant(int num_kv_heads) {
  std::vector<double> bias;
  for (int head = 0; head < num_kv_heads; ++head) bias.push_back(-1.0 - 0.5 * head);
  return {.variant = {.name = "sigmoid",
                      .source = R"(struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int) {
    return 1.f / (1.f + exp_f32(-(score + args.bias[row.kv_head])));
  }
};)",
                      .tensors = {{"bias", DType::f32}},
                      .softmax = false},
          .tensors = {bias},
          .logits = [bias](const ReferenceRow& row, double score, int) {
            return 1 / (1 + std::exp(-(score + at(bias, row.kv_head))));
          }};
}

VariantCase global_window_variant() {
  return {.variant = {.name = "global_window",
                      .source = R"(struct Variant {
  static bool visible(const Arguments& args, const QueryRow& row, int kv_token) {
    return kv_token < args.num_global || row.position - kv_token < args.window;
  }
};)",
                      .scalars = {{"num_global", DType::i32}, {"window", DType::i32}}},
          .scalars = {3, 9},
          .visible = [](const ReferenceRow& row, int kv_token) {
            return kv_token < 3 || row.position - kv_token < 9;
          }};
}

VariantCase every_argument_variant(int batch_size, int max_qo_len, int max_kv_len) {
  std::vector<double> token_bias, row_bias, kinds, hidden;
  for (int i = 0; i < max_kv_len; ++i) {
    token_bias.push_back(0.25 * (i % 5));
    hidden.push_back(i % 3 == 1 ? 255 : 0);
  }
  for (int i = 0; i < max_qo_len; ++i) row_bias.push_back(0.5 * (i % 3));
  for (int i = 0; i < batch_size; ++i) kinds.push_back(i % 2 - 1);
  return {.variant = {.name = "every_argument",
                      .source = R"(struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token) {
    const float bias = to_float(args.token_bias[kv_token]) * to_float(args.row_bias[row.token]);
    return args.kinds[row.request] < 0 ? score + bias : args.factor * score;
  }
  static bool visible(const Arguments& args, const QueryRow& row, int kv_token) {
    return args.hidden[kv_token] != args.flag || kv_token == row.kv_len - row.qo_len;
  }
};)",
                      .tensors = {{"token_bias", DType::bf16},
                                  {"row_bias", DType::f16},
                                  {"kinds", DType::i32},
                                  {"hidden", DType::u8}},
                      .scalars = {{"factor", DType::f32}, {"flag", DType::i32}}},
          .tensors = {token_bias, row_bias, kinds, hidden},
          .scalars = {0.5, 255},
          .logits =
              [=](const ReferenceRow& row, double score, int kv_token) {
                if (at(kinds, row.request) >= 0) return 0.5 * score;
                return score + at(token_bias, kv_token) * at(row_bias, row.token);
              },
          .visible =
              [=](const ReferenceRow& row, int kv_token) {
                return at(hidden, kv_token) == 0 || kv_token == row.kv_len - row.qo_len;
              }};
}

}  // namespace quire::test
