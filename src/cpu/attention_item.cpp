#include "cpu/attention_item.h"

#include <algorithm>
#include <cmath>

#include "cpu/attention_rows.h"

namespace quire::cpu {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionParams;
using kernels::WorkItem;

struct Tokens {
  std::int64_t begin, end;
  bool empty() const { return begin >= end; }
};

// Where K and V of a request's tokens are.
class KvRows {
 public:
  KvRows(const AttentionConfig& c, const AttentionParams& p, const WorkItem& item)
      : c_(c), p_(p), item_(item), first_(p.kv_indptr[item.request]) {}

  // Copies token's K and V as floats. False for a page outside the pool: nothing is read.
  bool load(std::int64_t token, float* k, float* v) const {
    std::int64_t page = 0, row = first_ + token;
    if (p_.page_size > 0) {
      page = p_.kv_indices[first_ + token / p_.page_size];
      row = token % p_.page_size;
      if (page < 0 || page >= p_.num_pages) return false;
    }
    simd::to_float(to_dtype(c_.kv_dtype),
                   element(p_.k, c_.kv_dtype,
                           page * p_.k_page_stride + row * p_.k_token_stride +
                               item_.kv_head * p_.k_head_stride),
                   c_.head_dim_qk, k);
    simd::to_float(to_dtype(c_.kv_dtype),
                   element(p_.v, c_.kv_dtype,
                           page * p_.v_page_stride + row * p_.v_token_stride +
                               item_.kv_head * p_.v_head_stride),
                   c_.head_dim_vo, v);
    return true;
  }

 private:
  const AttentionConfig& c_;
  const AttentionParams& p_;
  const WorkItem& item_;
  std::int64_t first_;  // entry of kv_indices, or row of ragged k and v
};

// Which tokens a packed row sees.
class Mask {
 public:
  Mask(const AttentionParams& p, const WorkItem& item) : p_(p), item_(item) {
    kv_len_ = p.kv_lens[item.request];
    qo_len_ = p.qo_indptr[item.request + 1] - p.qo_indptr[item.request];
    if (item.request < p.num_groups) qo_len_ = 0;  // the rows come after all tokens
  }

  // The kv token at a packed row's own place.
  std::int64_t position(std::int64_t packed_row) const {
    return kv_len_ - qo_len_ + packed_row / p_.group_size;
  }

  // Of the item's tokens, those that causal and window leave to a packed row.
  Tokens of_row(std::int64_t packed_row) const {
    const std::int64_t at = position(packed_row);
    Tokens tokens{item_.kv_begin, item_.kv_end};
    if (p_.causal) tokens.end = std::min(tokens.end, at + 1);
    if (p_.window_left >= 0) tokens.begin = std::max(tokens.begin, at - p_.window_left);
    return tokens;
  }

  bool custom_bit(std::int64_t packed_row, std::int64_t token) const {
    if (p_.custom_mask == nullptr) return true;
    const std::int64_t bit = packed_row / p_.group_size * kv_len_ + token;
    const std::int64_t byte = p_.mask_indptr[item_.request] + bit / 8;
    return byte >= 0 && byte < p_.mask_bytes && (p_.custom_mask[byte] >> (bit % 8) & 1) != 0;
  }

 private:
  const AttentionParams& p_;
  const WorkItem& item_;
  std::int64_t kv_len_, qo_len_;
};

class ItemRunner {
 public:
  ItemRunner(const AttentionConfig& c, const AttentionParams& p, const WorkItem& item,
             float* scratch)
      : c_(c), p_(p), item_(item), kv_(c, p, item), mask_(p, item) {
    const std::int64_t rows =
        std::int64_t{p.qo_indptr[item.request + 1] - p.qo_indptr[item.request]} * p.group_size;
    num_rows_ = static_cast<int>(std::min<std::int64_t>(c.tile_q, rows - item.q_begin));
    const auto take = [&scratch](std::int64_t floats) {
      float* begin = scratch;
      scratch += floats;
      return begin;
    };
    q_ = take(std::int64_t{c.tile_q} * c.head_dim_qk);
    k_ = take(std::int64_t{c.tile_kv} * c.head_dim_qk);
    v_ = take(std::int64_t{c.tile_kv} * c.head_dim_vo);
    out_ = take(std::int64_t{c.tile_q} * c.head_dim_vo);
    score_ = take(std::int64_t{c.tile_q} * c.tile_kv);
    max_ = take(c.tile_q);
    sum_ = take(c.tile_q);
  }

  void run() {
    load_q();
    std::fill_n(out_, std::int64_t{num_rows_} * c_.head_dim_vo, 0.f);
    std::fill_n(max_, num_rows_, kNegInf);
    std::fill_n(sum_, num_rows_, 0.f);
    // Later rows see later tokens.
    const Tokens tokens{mask_.of_row(item_.q_begin).begin,
                        mask_.of_row(item_.q_begin + num_rows_ - 1).end};
    for (std::int64_t begin = tokens.begin; begin < tokens.end; begin += c_.tile_kv) {
      step({begin, std::min(begin + c_.tile_kv, tokens.end)});
    }
    for (int r = 0; r < num_rows_; ++r) finish(r);
  }

 private:
  void load_q() {
    for (int r = 0; r < num_rows_; ++r) {
      const RowPosition row = row_position(p_, item_.request, item_.kv_head, item_.q_begin + r);
      const std::int64_t offset = row.token * p_.q_token_stride + row.head * p_.q_head_stride;
      float* q = q_ + std::int64_t{r} * c_.head_dim_qk;
      simd::to_float(to_dtype(c_.q_dtype), element(p_.q, c_.q_dtype, offset), c_.head_dim_qk, q);
      float scale = p_.sm_scale;
      if (p_.q_scales != nullptr) scale *= p_.q_scales[row.head];
      if (p_.k_scales != nullptr) scale *= p_.k_scales[item_.kv_head];
      simd::scale(q, c_.head_dim_qk, scale);
    }
  }

  void step(Tokens block) {
    const int num_tokens = static_cast<int>(block.end - block.begin);
    bool all_present = true;
    for (int t = 0; t < num_tokens; ++t) {
      present_[t] = kv_.load(block.begin + t, k_ + std::int64_t{t} * c_.head_dim_qk,
                             v_ + std::int64_t{t} * c_.head_dim_vo);
      all_present &= present_[t];
    }
    simd::dot_rows(q_, num_rows_, k_, num_tokens, c_.head_dim_qk, score_, c_.tile_kv);
    bool all_seen = all_present;
    for (int r = 0; r < num_rows_; ++r) all_seen &= softmax_row(r, block, all_present);
    if (all_seen) {
      simd::add_weighted_rows(score_, num_rows_, c_.tile_kv, v_, num_tokens, c_.head_dim_vo, out_);
    } else {
      for (int r = 0; r < num_rows_; ++r) add_seen_values(r, num_tokens);
    }
  }

  // Scores of a row to probabilities, relative to the row's maximum so far. Tokens that the row
  // does not see become 0 exactly. Returns whether it sees all.
  bool softmax_row(int r, Tokens block, bool all_present) {
    const int num_tokens = static_cast<int>(block.end - block.begin);
    float* score = score_ + std::int64_t{r} * c_.tile_kv;
    if (p_.logits_soft_cap > 0.f) simd::soft_cap(score, num_tokens, p_.logits_soft_cap);
    if (p_.alibi_slopes != nullptr) add_alibi(r, block, score);
    const bool all_seen = apply_mask(r, block, all_present, score);
    const float old_max = max_[r];
    for (int t = 0; t < num_tokens; ++t) {
      if (score[t] > max_[r]) max_[r] = score[t];  // NaN loses here and shows in the sum
    }
    // While nothing was seen, any finite shift does: exp(-inf) is 0.
    const float shift = max_[r] == kNegInf ? 0.f : max_[r];
    simd::exp_minus(score, num_tokens, shift);
    float sum = 0.f;
    for (int t = 0; t < num_tokens; ++t) sum += score[t];
    if (old_max != max_[r] && sum_[r] != 0.f) {
      const float correction = std::exp(old_max - shift);
      sum_[r] *= correction;
      simd::scale(out_ + std::int64_t{r} * c_.head_dim_vo, c_.head_dim_vo, correction);
    }
    sum_[r] += sum;
    return all_seen;
  }

  void add_alibi(int r, Tokens block, float* score) const {
    const std::int64_t packed_row = std::int64_t{item_.q_begin} + r;
    const RowPosition row = row_position(p_, item_.request, item_.kv_head, packed_row);
    const float slope = p_.alibi_slopes[row.head];
    const auto first = static_cast<float>(block.begin - mask_.position(packed_row));
    for (int t = 0; t < static_cast<int>(block.end - block.begin); ++t) {
      score[t] += slope * (first + static_cast<float>(t));
    }
  }

  bool apply_mask(int r, Tokens block, bool all_present, float* score) {
    const std::int64_t packed_row = std::int64_t{item_.q_begin} + r;
    const Tokens seen = mask_.of_row(packed_row);
    if (all_present && p_.custom_mask == nullptr && seen.begin <= block.begin &&
        block.end <= seen.end) {
      return true;
    }
    bool all_seen = true;
    for (std::int64_t token = block.begin; token < block.end; ++token) {
      const std::int64_t t = token - block.begin;
      if (token >= seen.begin && token < seen.end && present_[t] &&
          mask_.custom_bit(packed_row, token)) {
        continue;
      }
      score[t] = kNegInf;
      all_seen = false;
    }
    return all_seen;
  }

  // Runs of tokens with weight: the values of others may be NaN, and 0 x NaN is NaN.
  void add_seen_values(int r, int num_tokens) {
    const float* p = score_ + std::int64_t{r} * c_.tile_kv;
    for (int begin = 0; begin < num_tokens;) {
      if (p[begin] == 0.f) {
        ++begin;
        continue;
      }
      int end = begin;
      while (end < num_tokens && p[end] != 0.f) ++end;
      simd::add_weighted_rows(p + begin, 1, c_.tile_kv, v_ + std::int64_t{begin} * c_.head_dim_vo,
                              end - begin, c_.head_dim_vo, out_ + std::int64_t{r} * c_.head_dim_vo);
      begin = end;
    }
  }

  void finish(int r) {
    float* o = out_ + std::int64_t{r} * c_.head_dim_vo;
    const float lse = sum_[r] == 0.f ? kNegInf : max_[r] + std::log(sum_[r]);
    if (sum_[r] != 0.f) simd::scale(o, c_.head_dim_vo, 1.f / sum_[r]);
    if (item_.partial_row >= 0) {
      const std::int64_t row = std::int64_t{item_.partial_row} + r;
      std::copy_n(o, c_.head_dim_vo, p_.partial_o + row * c_.head_dim_vo);
      p_.partial_lse[row] = lse * kLog2e;
    } else {
      write_row(c_, p_, row_position(p_, item_.request, item_.kv_head, item_.q_begin + r), o, lse);
    }
  }

  const AttentionConfig& c_;
  const AttentionParams& p_;
  const WorkItem& item_;
  KvRows kv_;
  Mask mask_;
  int num_rows_;
  float *q_, *k_, *v_, *out_;  // [num_rows or tokens, head_dim]
  float* score_;               // [num_rows, tile_kv]
  float *max_, *sum_;          // [num_rows], of the softmax so far
  bool present_[kMaxTileKv];   // of the step's tokens: page inside the pool
};

}  // namespace

std::size_t attention_scratch_floats(const AttentionConfig& c) {
  return static_cast<std::size_t>(c.tile_q + c.tile_kv) * (c.head_dim_qk + c.head_dim_vo) +
         static_cast<std::size_t>(c.tile_q) * (c.tile_kv + 2);
}

void attention_item(const AttentionConfig& config, const AttentionParams& params,
                    const WorkItem& item, float* scratch) {
  ItemRunner(config, params, item, scratch).run();
}

}  // namespace quire::cpu
