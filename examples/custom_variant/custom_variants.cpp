#include "custom_variants.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>

namespace custom_variant {
namespace {

using quire::DType;
using quire::TensorView;

constexpr int kQoHeads = 8, kKvHeads = 2, kHeadDim = 64;
constexpr int kQoLen = 5, kKvLen = 50;  // one request, KV ragged

// Host values on a device: bf16 for q, k, v, f32 for the rest.
class DeviceArray {
 public:
  template <class T>
  DeviceArray(const std::vector<T>& values, DType dtype, quire::Device device)
      : buffer_(values.size() * sizeof(T), device), dtype_(dtype) {
    quire::copy(buffer_.data(), device, values.data(), quire::kCpu, buffer_.size_bytes());
  }
  TensorView view(std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(buffer_.data(), dtype_, shape, buffer_.device());
  }

 private:
  quire::Buffer buffer_;
  DType dtype_;
};

// Random numbers that bf16 holds exactly.
std::vector<float> random_values(int rows, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(rows) * kHeadDim);
  for (float& x : values) {
    x = std::bit_cast<float>(std::bit_cast<std::uint32_t>(normal(engine)) & 0xffff0000u);
  }
  return values;
}

std::vector<std::uint16_t> as_bf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float x : values) {
    bits.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
  }
  return bits;
}

struct Inputs {
  std::vector<float> q = random_values(kQoLen * kQoHeads, 1);
  std::vector<float> k = random_values(kKvLen * kKvHeads, 2);
  std::vector<float> v = random_values(kKvLen * kKvHeads, 3);
};

std::vector<float> on_device(const Example& example, const Inputs& in, quire::Device device) {
  const DeviceArray q(as_bf16(in.q), DType::bf16, device), k(as_bf16(in.k), DType::bf16, device),
      v(as_bf16(in.v), DType::bf16, device), tensor(example.tensor, DType::f32, device),
      sinks(example.sinks, DType::f32, device);
  std::vector<float> result(in.q.size());
  const DeviceArray out(result, DType::f32, device);
  std::vector<std::int32_t> qo_indptr{0, kQoLen}, kv_indptr{0, kKvLen};
  const auto ints = [](std::vector<std::int32_t>& values) {
    return TensorView::contiguous(values.data(), DType::i32, {2});
  };

  quire::BatchAttention attention(device);
  // The plan decides the kernel, so the variant is given to it, and compiled here.
  attention.plan({.num_qo_heads = kQoHeads,
                  .num_kv_heads = kKvHeads,
                  .head_dim_qk = kHeadDim,
                  .head_dim_vo = kHeadDim,
                  .o_dtype = DType::f32},
                 ints(qo_indptr), ints(kv_indptr), {.causal = true, .variant = example.variant});
  // Its values may be others in every run.
  quire::AttentionOptions options{.causal = true, .variant_scalars = example.scalars};
  if (!example.tensor.empty()) {
    options.variant_tensors = {tensor.view({static_cast<std::int64_t>(example.tensor.size())})};
  }
  if (!example.sinks.empty()) options.sinks = sinks.view({kQoHeads});
  attention.run(q.view({kQoLen, kQoHeads, kHeadDim}), k.view({kKvLen, kKvHeads, kHeadDim}),
                v.view({kKvLen, kKvHeads, kHeadDim}), out.view({kQoLen, kQoHeads, kHeadDim}), {},
                options);
  quire::synchronize(device);
  quire::copy(result.data(), quire::kCpu, out.view({1}).data, device, 4 * result.size());
  return result;
}

// One row of q in double.
std::vector<double> attend(const Example& example, const Inputs& in, int token, int head) {
  const auto row = [](const std::vector<float>& values, int index) {
    return values.data() + static_cast<std::ptrdiff_t>(index) * kHeadDim;
  };
  const int kv_head = head / (kQoHeads / kKvHeads), position = kKvLen - kQoLen + token;
  double sum = example.sinks.empty() ? 0 : std::exp(example.sinks[static_cast<std::size_t>(head)]);
  std::vector<double> out(kHeadDim);
  for (int kv = 0; kv <= position; ++kv) {
    if (example.visible && !example.visible(kv, kv - position)) continue;
    double score = 0;
    for (int d = 0; d < kHeadDim; ++d) {
      score +=
          double{row(in.q, token * kQoHeads + head)[d]} * row(in.k, kv * kKvHeads + kv_head)[d];
    }
    score /= std::sqrt(kHeadDim);
    if (example.logits) score = example.logits(head, kv - position, score);
    const double weight = example.variant.softmax ? std::exp(score) : score;
    sum += weight;
    for (int d = 0; d < kHeadDim; ++d) {
      out[static_cast<std::size_t>(d)] += weight * row(in.v, kv * kKvHeads + kv_head)[d];
    }
  }
  if (example.variant.softmax) {
    for (double& x : out) x /= sum;
  }
  return out;
}

}  // namespace

Example alibi() {
  std::vector<float> slopes;
  for (int head = 0; head < kQoHeads; ++head) {
    slopes.push_back(std::exp2(-static_cast<float>(head + 1)));
  }
  return {.variant = {.name = "alibi",
                      // row() is called once a row, so that the slope is loaded once.
                      .source = R"(
struct Variant {
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
};
)",
                      .tensors = {{"slopes", DType::f32}}},
          .tensor = slopes,
          .logits = [slopes](int head, int distance, double score) {
            return score + slopes[static_cast<std::size_t>(head)] * distance;
          }};
}

Example soft_cap() {
  return {.variant = {.name = "soft_cap",
                      .source = R"(
struct Variant {
  static float logits(const Arguments& args, const QueryRow&, float score, int) {
    return args.cap * tanh_f32(score / args.cap);
  }
};
)",
                      .scalars = {{"cap", DType::f32}}},
          .scalars = {0.5},
          .logits = [](int, int, double score) { return 0.5 * std::tanh(score / 0.5); }};
}

Example sigmoid() {
  return {.variant = {.name = "sigmoid",
                      .source = R"(
struct Variant {
  static float logits(const Arguments& args, const QueryRow&, float score, int) {
    return 1.f / (1.f + exp_f32(-(score + args.bias)));
  }
};
)",
                      .scalars = {{"bias", DType::f32}},
                      .softmax = false},
          .scalars = {-3},
          .logits = [](int, int, double score) { return 1 / (1 + std::exp(3 - score)); }};
}

Example learned_sink() {
  Example example = soft_cap();
  for (int head = 0; head < kQoHeads; ++head) {
    example.sinks.push_back(0.5f * static_cast<float>(head));
  }
  return example;
}

Example global_window() {
  return {.variant = {.name = "global_window",
                      .source = R"(
struct Variant {
  static bool visible(const Arguments& args, const QueryRow& row, int kv_token) {
    return kv_token < args.num_global || row.position - kv_token < args.window;
  }
};
)",
                      .scalars = {{"num_global", DType::i32}, {"window", DType::i32}}},
          .scalars = {4, 16},
          .visible = [](int kv_token, int distance) { return kv_token < 4 || -distance < 16; }};
}

std::vector<Example> all_examples() {
  return {alibi(), soft_cap(), sigmoid(), learned_sink(), global_window()};
}

double largest_difference(const Example& example, quire::Device device) {
  const Inputs in;
  const std::vector<float> result = on_device(example, in, device);
  double largest = 0;
  std::size_t i = 0;
  for (int token = 0; token < kQoLen; ++token) {
    for (int head = 0; head < kQoHeads; ++head) {
      for (const double expected : attend(example, in, token, head)) {
        largest = std::max(largest, std::fabs(result[i++] - expected));
      }
    }
  }
  return largest;
}

}  // namespace custom_variant
