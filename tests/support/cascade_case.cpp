#include "support/cascade_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "support/poison_shared_memory.h"
#include "support/reference_attention.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Among the last `own` tokens, all the others are seen.
std::vector<bool> causal_mask(const ReferenceRequest& request, int own) {
  std::vector<bool> mask;
  for (int i = 0; i < request.qo_len; ++i) {
    for (int t = own - request.kv_len; t < own; ++t) {
      mask.push_back(t < 0 || t <= own - request.qo_len + i);
    }
  }
  return mask;
}

}  // namespace

Cascade::Cascade(const CascadeCase& c, std::uint64_t seed) : case_(c), shape_(c.base.shape) {
  for (const LevelLens& lens : c.levels) add_level(lens);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(num_pages_));
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(seed));
  std::size_t next = 0;
  for (LevelTable& table : tables_) {
    for (std::int32_t i = 0; i < table.indptr.back(); ++i) table.indices.push_back(ids[next++]);
  }
  q_ = TestTensor::random({total_q(), shape_.num_qo_heads, shape_.head_dim_qk}, shape_.q_dtype,
                          seed);
  k_ = pool(shape_.head_dim_qk, seed + 1);
  v_ = pool(shape_.head_dim_vo, seed + 2);
  if (c.base.sinks) {
    sinks_ = TestTensor::random({shape_.num_qo_heads}, DType::f32, seed + 3, 2);
  }
  for (std::size_t l = 0; l < tables_.size(); ++l) {
    const LevelTable& t = tables_[l];
    // Ids of one level on the host beside others on the device.
    const bool on_device = c.base.indices_on_device && l % 2 == 0;
    arrays_.push_back({TestTensor::ints(t.qo_indptr, kCpu), TestTensor::ints(t.indptr, kCpu),
                       TestTensor::ints(t.indices, on_device ? test_device() : kCpu),
                       TestTensor::ints(t.last_page_len, kCpu)});
  }
}

std::vector<CascadeLevel> Cascade::levels() const {
  std::vector<CascadeLevel> levels;
  for (const LevelArrays& level : arrays_) levels.push_back(level.view());
  return levels;
}

void Cascade::plan(BatchAttention& attention) const {
  attention.plan_cascade(shape_, levels(), case_.base.plan);
}

AttentionOptions Cascade::options() const {
  AttentionOptions options{.causal = case_.base.causal,
                           .logits_soft_cap = case_.base.logits_soft_cap,
                           .k_scale = case_.base.k_scale,
                           .v_scale = case_.base.v_scale,
                           .lse_base = case_.base.lse_base};
  if (sinks_) options.sinks = *sinks_;
  return options;
}

void Cascade::run(const BatchAttention& attention, const TestTensor& out, const TestTensor& lse,
                  const AttentionOptions& options) const {
  attention.run(*q_, {*k_, *v_, shape_.layout}, out, lse, options);
}

TestTensor Cascade::poisoned_out() const {
  return TestTensor::poisoned({total_q(), shape_.num_qo_heads, shape_.head_dim_vo}, shape_.o_dtype);
}

TestTensor Cascade::poisoned_lse() const {
  return TestTensor::poisoned({total_q(), shape_.num_qo_heads}, DType::f32);
}

AttentionAnswer Cascade::run() const {
  const auto bytes = attention_workspace_bytes(test_device(), shape_, levels(), case_.base.plan);
  const TestTensor workspace = TestTensor::poisoned({static_cast<std::int64_t>(bytes)}, DType::u8);
  const TestTensor out = poisoned_out(), lse = poisoned_lse();
  BatchAttention attention(test_device());
  attention.set_workspace(workspace);
  plan(attention);
  poison_shared_memory();
  run(attention, out, lse, options());
  synchronize(test_device());
  EXPECT_TRUE(workspace.guards_intact() && out.guards_intact() && lse.guards_intact());
  return {out.values(), lse.values()};
}

AttentionAnswer Cascade::reference() const {
  const std::vector<double> q = q_->values(), k = k_->values(), v = v_->values();
  const ReferenceOptions options{
      .num_qo_heads = shape_.num_qo_heads,
      .num_kv_heads = shape_.num_kv_heads,
      .head_dim_qk = shape_.head_dim_qk,
      .head_dim_vo = shape_.head_dim_vo,
      .sm_scale = double{case_.base.k_scale} / std::sqrt(double(shape_.head_dim_qk)),
      .logits_soft_cap = case_.base.logits_soft_cap,
      .v_scale = case_.base.v_scale,
      .base_two = case_.base.lse_base == LseBase::two,
      .sinks = sinks_ ? sinks_->values() : std::vector<double>{}};
  AttentionAnswer answer;
  const std::vector<int>& qo_lens = case_.levels.back().qo_lens;
  for (std::size_t r = 0, row = 0; r < qo_lens.size(); ++r) {
    ReferenceRequest request{.qo_len = qo_lens[r]};
    const auto width = static_cast<std::size_t>(shape_.num_qo_heads * shape_.head_dim_qk);
    const auto begin = q.begin() + static_cast<std::ptrdiff_t>(row * width);
    request.q.assign(begin, begin + static_cast<std::ptrdiff_t>(request.qo_len * width));
    for (std::size_t l = 0; l < case_.levels.size(); ++l) {
      const std::size_t g = l + 1 == case_.levels.size() ? r : group_of(l, static_cast<int>(row));
      for (int t = 0; t < case_.levels[l].kv_lens[g]; ++t, ++request.kv_len) {
        add_token(request.k, k, kv_row(l, g, t), shape_.head_dim_qk);
        add_token(request.v, v, kv_row(l, g, t), shape_.head_dim_vo);
      }
    }
    if (case_.base.causal) request.mask = causal_mask(request, case_.levels.back().kv_lens[r]);
    row += static_cast<std::size_t>(request.qo_len);
    const ReferenceResult result = reference_attention(request, options);
    answer.out.insert(answer.out.end(), result.out.begin(), result.out.end());
    answer.lse.insert(answer.lse.end(), result.lse.begin(), result.lse.end());
  }
  return answer;
}

void Cascade::add_level(const LevelLens& lens) {
  LevelTable table;
  for (std::size_t g = 0; g < lens.qo_lens.size(); ++g) {
    const int kv_len = lens.kv_lens[g];
    const int pages = (kv_len + shape_.page_size - 1) / shape_.page_size;
    table.qo_indptr.push_back(table.qo_indptr.back() + lens.qo_lens[g]);
    table.indptr.push_back(table.indptr.back() + pages);
    table.last_page_len.push_back(pages == 0 ? 0 : kv_len - (pages - 1) * shape_.page_size);
    num_pages_ += pages;
  }
  tables_.push_back(table);
}

std::size_t Cascade::group_of(std::size_t level, int row) const {
  const auto& indptr = tables_[level].qo_indptr;
  return static_cast<std::size_t>(std::ranges::upper_bound(indptr, row) - indptr.begin()) - 1;
}

std::int64_t Cascade::kv_row(std::size_t level, std::size_t group, int token) const {
  const LevelTable& table = tables_[level];
  const auto entry = static_cast<std::size_t>(table.indptr[group] + token / shape_.page_size);
  return std::int64_t{table.indices[entry]} * shape_.page_size + token % shape_.page_size;
}

std::size_t Cascade::index(std::int64_t row, int head, int width) const {
  const std::int64_t heads = shape_.num_kv_heads, tokens = shape_.page_size;
  if (shape_.layout == KvLayout::nhd) return static_cast<std::size_t>((row * heads + head) * width);
  return static_cast<std::size_t>(((row / tokens * heads + head) * tokens + row % tokens) * width);
}

void Cascade::add_token(std::vector<double>& to, const std::vector<double>& pool, std::int64_t row,
                        int width) const {
  for (int head = 0; head < shape_.num_kv_heads; ++head) {
    const double* from = &pool[index(row, head, width)];
    to.insert(to.end(), from, from + width);
  }
}

// NaN where no group has a token.
TestTensor Cascade::pool(int width, std::uint64_t seed) const {
  const std::int64_t rows = num_pages_ * shape_.page_size;
  std::vector<double> values(static_cast<std::size_t>(rows * shape_.num_kv_heads * width),
                             std::numeric_limits<double>::quiet_NaN());
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (std::size_t l = 0; l < case_.levels.size(); ++l) {
    for (std::size_t g = 0; g < case_.levels[l].kv_lens.size(); ++g) {
      for (int t = 0; t < case_.levels[l].kv_lens[g]; ++t) {
        for (int head = 0; head < shape_.num_kv_heads; ++head) {
          std::generate_n(&values[index(kv_row(l, g, t), head, width)], width,
                          [&] { return normal(engine); });
        }
      }
    }
  }
  const bool nhd = shape_.layout == KvLayout::nhd;
  return TestTensor::from(values,
                          {num_pages_, nhd ? shape_.page_size : shape_.num_kv_heads,
                           nhd ? shape_.num_kv_heads : shape_.page_size, width},
                          shape_.kv_dtype);
}

}  // namespace quire::test
