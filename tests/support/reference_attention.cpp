#include "support/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace quire::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Row {
  int token, head;
};

ReferenceRow full_row(const ReferenceRequest& r, const ReferenceOptions& o, Row row) {
  return {.request = r.index,
          .token = row.token,
          .position = r.kv_len - r.qo_len + row.token,
          .qo_len = r.qo_len,
          .kv_len = r.kv_len,
          .qo_head = row.head,
          .kv_head = row.head / (o.num_qo_heads / o.num_kv_heads)};
}

bool visible(const ReferenceRequest& r, const ReferenceOptions& o, Row row, int kv) {
  const int token = row.token;
  const int position = r.kv_len - r.qo_len + token;
  if (o.causal && kv > position) return false;
  if (o.window_left >= 0 && kv < position - o.window_left) return false;
  if (o.visible && !o.visible(full_row(r, o, row), kv)) return false;
  return r.mask.empty() ||
         r.mask[static_cast<std::size_t>(token) * static_cast<std::size_t>(r.kv_len) +
                static_cast<std::size_t>(kv)];
}

double logit(const ReferenceRequest& r, const ReferenceOptions& o, Row row, int kv) {
  const int kv_head = row.head / (o.num_qo_heads / o.num_kv_heads);
  const double* q =
      &r.q[static_cast<std::size_t>(row.token * o.num_qo_heads + row.head) * o.head_dim_qk];
  const double* k = &r.k[static_cast<std::size_t>(kv * o.num_kv_heads + kv_head) * o.head_dim_qk];
  double dot = 0;
  for (int i = 0; i < o.head_dim_qk; ++i) dot += q[i] * k[i];
  dot *= o.sm_scale;
  if (o.logits_soft_cap > 0) dot = o.logits_soft_cap * std::tanh(dot / o.logits_soft_cap);
  if (!o.alibi_slopes.empty()) {
    const int position = r.kv_len - r.qo_len + row.token;
    dot += o.alibi_slopes[static_cast<std::size_t>(row.head)] * (kv - position);
  }
  return o.logits ? o.logits(full_row(r, o, row), dot, kv) : dot;
}

// Without softmax: the logits are the weights.
void add_row(const ReferenceRequest& r, const ReferenceOptions& o, Row row, double* out) {
  std::fill(out, out + o.head_dim_vo, 0.0);
  const int kv_head = row.head / (o.num_qo_heads / o.num_kv_heads);
  for (int kv = 0; kv < r.kv_len; ++kv) {
    if (!visible(r, o, row, kv)) continue;
    const double weight = o.v_scale * logit(r, o, row, kv);
    const double* v = &r.v[static_cast<std::size_t>(kv * o.num_kv_heads + kv_head) * o.head_dim_vo];
    for (int i = 0; i < o.head_dim_vo; ++i) out[i] += weight * v[i];
  }
}

void attend_row(const ReferenceRequest& r, const ReferenceOptions& o, Row row, double* out,
                double* lse) {
  const int kv_head = row.head / (o.num_qo_heads / o.num_kv_heads);
  std::vector<double> logits(static_cast<std::size_t>(r.kv_len), -kInfinity);
  double largest = o.sinks.empty() ? -kInfinity : o.sinks[static_cast<std::size_t>(row.head)];
  for (int kv = 0; kv < r.kv_len; ++kv) {
    if (!visible(r, o, row, kv)) continue;
    const double x = logit(r, o, row, kv);
    logits[static_cast<std::size_t>(kv)] = x;
    largest = std::max(largest, x);
  }
  std::fill(out, out + o.head_dim_vo, 0.0);
  *lse = -kInfinity;
  if (largest == -kInfinity) return;
  double sum =
      o.sinks.empty() ? 0 : std::exp(o.sinks[static_cast<std::size_t>(row.head)] - largest);
  for (int kv = 0; kv < r.kv_len; ++kv) {
    if (!visible(r, o, row, kv)) continue;
    const double p = std::exp(logits[static_cast<std::size_t>(kv)] - largest);
    const double* v = &r.v[static_cast<std::size_t>(kv * o.num_kv_heads + kv_head) * o.head_dim_vo];
    sum += p;
    for (int i = 0; i < o.head_dim_vo; ++i) out[i] += p * v[i];
  }
  for (int i = 0; i < o.head_dim_vo; ++i) out[i] *= o.v_scale / sum;
  *lse = (largest + std::log(sum)) / (o.base_two ? std::log(2.0) : 1.0);
}

}  // namespace

ReferenceResult reference_attention(const ReferenceRequest& r, const ReferenceOptions& o) {
  const std::size_t rows =
      static_cast<std::size_t>(r.qo_len) * static_cast<std::size_t>(o.num_qo_heads);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ReferenceResult result{std::vector<double>(rows * static_cast<std::size_t>(o.head_dim_vo), nan),
                         std::vector<double>(rows, nan)};
  for (std::size_t row = 0; row < rows; row += static_cast<std::size_t>(o.row_step)) {
    const Row at{static_cast<int>(row) / o.num_qo_heads, static_cast<int>(row) % o.num_qo_heads};
    double* out = &result.out[row * static_cast<std::size_t>(o.head_dim_vo)];
    if (o.softmax) {
      attend_row(r, o, at, out, &result.lse[row]);
    } else {
      add_row(r, o, at, out);
      result.lse[row] = 0;
    }
  }
  return result;
}

}  // namespace quire::test
