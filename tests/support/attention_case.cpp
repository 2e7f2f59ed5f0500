#include "support/attention_case.h"

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

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int kUnusedPages = 3;

std::vector<std::int32_t> indptr_of(const std::vector<int>& lens) {
  std::vector<std::int32_t> indptr(lens.size() + 1);
  std::partial_sum(lens.begin(), lens.end(), indptr.begin() + 1);
  return indptr;
}

// The last dimension without what was added to its rows.
TensorView columns(const TensorView& tensor, std::int64_t begin, std::int64_t end) {
  return tensor.slice(tensor.rank - 1, begin, end);
}

bool is_fp8(DType dtype) { return dtype == DType::f8e4m3 || dtype == DType::f8e5m2; }

// Different for every head, and from one tensor to the next.
constexpr double kFirstQScale = 0.5, kFirstKScale = 0.75, kFirstVScale = 0.375;
double scale_of_head(int head) { return 1 + 0.75 * head; }

TestTensor scales_of_heads(int heads, double first) {
  std::vector<double> scales;
  for (int head = 0; head < heads; ++head) scales.push_back(first * scale_of_head(head));
  return TestTensor::from(scales, {heads}, DType::f32);
}

// Multiplies the rows of [rows, heads, width] by the scale of their head.
void scale_heads(std::vector<double>& rows, const std::optional<TestTensor>& scales, int width) {
  if (!scales) return;
  const std::vector<double> factors = scales->values();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] *= factors[i / static_cast<std::size_t>(width) % factors.size()];
  }
}

}  // namespace

AttentionBatch::Pages AttentionBatch::make_pages(const AttentionCase& c, std::uint64_t seed) {
  Pages pages;
  const int page_size = c.shape.page_size;
  if (page_size == 0) {
    pages.indptr = indptr_of(c.kv_lens);
    pages.pool_rows = pages.indptr.back();
    return pages;
  }
  for (const int len : c.kv_lens) {
    const int count = (len + page_size - 1) / page_size;
    pages.indptr.push_back(pages.indptr.back() + count);
    pages.last_page_len.push_back(count == 0 ? 0 : len - (count - 1) * page_size);
  }
  std::vector<std::int32_t> ids(static_cast<std::size_t>(pages.indptr.back()) + kUnusedPages);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(seed));
  pages.pool_rows = static_cast<std::int64_t>(ids.size()) * page_size;
  ids.resize(static_cast<std::size_t>(pages.indptr.back()));
  pages.indices = ids;
  return pages;
}

AttentionBatch::AttentionBatch(const AttentionCase& c, std::uint64_t seed)
    : case_(c),
      pages_(make_pages(c, seed)),
      q_(TestTensor::random({total_q(), c.shape.num_qo_heads, c.shape.head_dim_qk + c.odd_stride},
                            c.shape.q_dtype, seed, c.q_scale)),
      k_(make_kv(c.packed_kv ? c.shape.head_dim_qk + c.shape.head_dim_vo
                             : c.shape.head_dim_qk + c.odd_stride,
                 seed + 1)),
      v_(make_kv(c.packed_kv ? 0 : c.shape.head_dim_vo + c.odd_stride, seed + 2)),
      qo_indptr_(TestTensor::ints(indptr_of(c.qo_lens), kCpu)),
      kv_indptr_(TestTensor::ints(pages_.indptr, kCpu)),
      kv_indices_(TestTensor::ints(pages_.indices, c.indices_on_device ? test_device() : kCpu)),
      last_page_len_(TestTensor::ints(pages_.last_page_len, kCpu)) {
  std::mt19937_64 engine(seed + 3);
  if (c.sinks) sinks_ = TestTensor::random({c.shape.num_qo_heads}, DType::f32, seed + 4, 2);
  if (c.alibi) {
    std::vector<double> slopes;
    for (int head = 0; head < c.shape.num_qo_heads; ++head) slopes.push_back(std::exp2(-head));
    alibi_slopes_ = TestTensor::from(slopes, {c.shape.num_qo_heads}, DType::f32);
  }
  if (c.head_scales && is_fp8(c.shape.q_dtype)) {
    q_scales_ = scales_of_heads(c.shape.num_qo_heads, kFirstQScale);
  }
  if (c.head_scales && is_fp8(c.shape.kv_dtype)) {
    k_scales_ = scales_of_heads(c.shape.num_kv_heads, kFirstKScale);
    v_scales_ = scales_of_heads(c.shape.num_kv_heads, kFirstVScale);
  }
  if (c.variant) {
    case_.plan.variant = c.variant->variant;
    for (std::size_t i = 0; i < c.variant->tensors.size(); ++i) {
      const std::vector<double>& values = c.variant->tensors[i];
      variant_tensors_.push_back(TestTensor::from(
          values, {static_cast<std::int64_t>(values.size())}, c.variant->variant.tensors[i].dtype));
    }
  }
  if (!c.custom_mask) return;
  std::vector<std::uint8_t> bytes;
  std::vector<std::int32_t> indptr{0};
  for (std::size_t r = 0; r < c.qo_lens.size(); ++r) {
    const auto kv_len = static_cast<std::size_t>(c.kv_lens[r]);
    std::vector<bool> bits(static_cast<std::size_t>(c.qo_lens[r]) * kv_len);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bits[i] = engine() % 3 != 0 && !(c.empty_mask_rows && i / kv_len % 3 == 1);
    }
    std::vector<std::uint8_t> packed((bits.size() + 7) / 8);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      packed[i / 8] = static_cast<std::uint8_t>(packed[i / 8] | bits[i] << (i % 8));
    }
    bytes.insert(bytes.end(), packed.begin(), packed.end());
    indptr.push_back(static_cast<std::int32_t>(bytes.size()));
    mask_bits_.push_back(std::move(bits));
  }
  mask_ = TestTensor::bytes(bytes);
  mask_indptr_ = TestTensor::ints(indptr);
}

std::int64_t AttentionBatch::total_q() const {
  return std::accumulate(case_.qo_lens.begin(), case_.qo_lens.end(), std::int64_t{0});
}

std::int64_t AttentionBatch::kv_row(int request, int token) const {
  const std::int64_t first = pages_.indptr[static_cast<std::size_t>(request)];
  if (!paged()) return first + token;
  const int page_size = case_.shape.page_size;
  const auto entry = static_cast<std::size_t>(first + token / page_size);
  return std::int64_t{pages_.indices[entry]} * page_size + token % page_size;
}

std::size_t AttentionBatch::kv_index(std::int64_t row, int head, int width) const {
  const std::int64_t heads = case_.shape.num_kv_heads;
  if (case_.shape.layout == KvLayout::nhd) {
    return static_cast<std::size_t>((row * heads + head) * width);
  }
  const std::int64_t tokens = paged() ? case_.shape.page_size : pages_.pool_rows;
  return static_cast<std::size_t>(((row / tokens * heads + head) * tokens + row % tokens) * width);
}

Shape AttentionBatch::kv_shape(int width) const {
  const bool nhd = case_.shape.layout == KvLayout::nhd;
  const std::int64_t heads = case_.shape.num_kv_heads;
  const std::int64_t tokens = paged() ? case_.shape.page_size : pages_.pool_rows;
  Shape shape{nhd ? tokens : heads, nhd ? heads : tokens, width};
  if (paged()) shape.insert(shape.begin(), pages_.pool_rows / tokens);
  return shape;
}

// Random where a request has a token, NaN in unused pages and in the tails of last pages.
TestTensor AttentionBatch::make_kv(int width, std::uint64_t seed) const {
  const Shape shape = kv_shape(width);
  std::vector<double> values(
      static_cast<std::size_t>(pages_.pool_rows * case_.shape.num_kv_heads * width),
      case_.clean_padding ? 0.0 : kNan);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (std::size_t r = 0; r < case_.kv_lens.size() && width > 0; ++r) {
    for (int t = 0; t < case_.kv_lens[r]; ++t) {
      const std::int64_t row = kv_row(static_cast<int>(r), t);
      for (int head = 0; head < case_.shape.num_kv_heads; ++head) {
        double* x = &values[kv_index(row, head, width)];
        std::generate_n(x, width, [&] { return normal(engine); });
      }
    }
  }
  return TestTensor::from(values, shape, case_.shape.kv_dtype);
}

TensorView AttentionBatch::k_view() const { return columns(k_, 0, case_.shape.head_dim_qk); }

TensorView AttentionBatch::v_view() const {
  const int qk = case_.shape.head_dim_qk, vo = case_.shape.head_dim_vo;
  return case_.packed_kv ? columns(k_, qk, qk + vo) : columns(v_, 0, vo);
}

TensorView AttentionBatch::rows_view(const TestTensor& tensor, int head_dim) const {
  return columns(tensor, 0, head_dim);
}

AttentionOptions AttentionBatch::options() const {
  AttentionOptions options{.causal = case_.causal,
                           .window_left = case_.window_left,
                           .sm_scale = case_.sm_scale,
                           .logits_soft_cap = case_.logits_soft_cap,
                           .q_scale = case_.q_tensor_scale,
                           .k_scale = case_.k_scale,
                           .v_scale = case_.v_scale,
                           .lse_base = case_.lse_base};
  if (mask_) options.custom_mask = *mask_;
  if (mask_indptr_) options.mask_indptr = *mask_indptr_;
  if (sinks_) options.sinks = *sinks_;
  if (q_scales_) options.q_scales = *q_scales_;
  if (k_scales_) options.k_scales = *k_scales_;
  if (v_scales_) options.v_scales = *v_scales_;
  if (alibi_slopes_) options.alibi_slopes = *alibi_slopes_;
  for (const TestTensor& tensor : variant_tensors_) options.variant_tensors.push_back(tensor);
  if (case_.variant) options.variant_scalars = case_.variant->scalars;
  return options;
}

std::size_t AttentionBatch::workspace_bytes() const {
  return paged() ? attention_workspace_bytes(test_device(), case_.shape, qo_indptr_, table(),
                                             case_.plan)
                 : attention_workspace_bytes(test_device(), case_.shape, qo_indptr_, kv_indptr_,
                                             case_.plan);
}

void AttentionBatch::plan(BatchAttention& attention) const {
  if (paged()) {
    attention.plan(case_.shape, qo_indptr_, table(), case_.plan);
  } else {
    attention.plan(case_.shape, qo_indptr_, kv_indptr_, case_.plan);
  }
}

Shape AttentionBatch::out_shape() const {
  return {total_q(), case_.shape.num_qo_heads, case_.shape.head_dim_vo};
}

Shape AttentionBatch::lse_shape() const { return {total_q(), case_.shape.num_qo_heads}; }

AttentionAnswer AttentionBatch::run() const {
  const int vo = case_.shape.head_dim_vo;
  const TestTensor workspace =
      TestTensor::poisoned({static_cast<std::int64_t>(workspace_bytes())}, DType::u8);
  const TestTensor out = TestTensor::poisoned(
      {total_q(), case_.shape.num_qo_heads, vo + case_.odd_stride}, case_.shape.o_dtype);
  const TestTensor lse = TestTensor::poisoned(lse_shape(), DType::f32);
  std::optional<TensorView> lse_view;
  if (case_.with_lse) lse_view = lse;

  BatchAttention attention(test_device());
  attention.set_workspace(workspace);
  plan(attention);
  poison_shared_memory();
  if (paged()) {
    attention.run(q(), kv(), rows_view(out, vo), lse_view, options());
  } else {
    attention.run(q(), k_view(), v_view(), rows_view(out, vo), lse_view, options());
  }
  synchronize(test_device());
  EXPECT_TRUE(workspace.guards_intact());
  EXPECT_TRUE(out.guards_intact());
  EXPECT_TRUE(lse.guards_intact());

  AttentionAnswer answer{{}, case_.with_lse ? lse.values() : std::vector<double>{}};
  const std::vector<double> rows = out.values();
  const auto width = static_cast<std::size_t>(vo + case_.odd_stride);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i % width < static_cast<std::size_t>(vo)) {
      answer.out.push_back(rows[i]);
    } else {
      EXPECT_TRUE(std::isnan(rows[i])) << "written between the rows of out";
    }
  }
  return answer;
}

AttentionAnswer AttentionBatch::reference() const {
  const AttentionShape& s = case_.shape;
  const int qk = s.head_dim_qk, vo = s.head_dim_vo;
  const std::vector<double> q = q_.values(), k = k_.values(), v = v_.values();
  const auto q_width = static_cast<std::size_t>(qk + case_.odd_stride);
  const int k_width = case_.packed_kv ? qk + vo : qk + case_.odd_stride;
  const int v_width = case_.packed_kv ? k_width : vo + case_.odd_stride;
  ReferenceOptions options{
      .num_qo_heads = s.num_qo_heads,
      .num_kv_heads = s.num_kv_heads,
      .head_dim_qk = qk,
      .head_dim_vo = vo,
      .causal = case_.causal,
      .window_left = case_.window_left,
      .sm_scale = (case_.sm_scale > 0 ? double{case_.sm_scale} : 1 / std::sqrt(double(qk))) *
                  case_.q_tensor_scale * case_.k_scale,
      .logits_soft_cap = case_.logits_soft_cap,
      .v_scale = case_.v_scale,
      .base_two = case_.lse_base == LseBase::two,
      .sinks = sinks_ ? sinks_->values() : std::vector<double>{},
      .alibi_slopes = alibi_slopes_ ? alibi_slopes_->values() : std::vector<double>{},
      .row_step = case_.row_step};
  if (case_.variant) {
    options.logits = case_.variant->logits;
    options.visible = case_.variant->visible;
    options.softmax = case_.variant->variant.softmax;
  }
  AttentionAnswer answer;
  std::size_t q_row = 0;
  for (std::size_t r = 0; r < case_.qo_lens.size(); ++r) {
    ReferenceRequest request{
        .qo_len = case_.qo_lens[r], .kv_len = case_.kv_lens[r], .index = static_cast<int>(r)};
    if (!mask_bits_.empty()) request.mask = mask_bits_[r];
    for (int i = 0; i < request.qo_len * s.num_qo_heads; ++i, ++q_row) {
      const auto begin = q.begin() + static_cast<std::ptrdiff_t>(q_row * q_width);
      request.q.insert(request.q.end(), begin, begin + qk);
    }
    for (int t = 0; t < request.kv_len; ++t) {
      const std::int64_t row = kv_row(static_cast<int>(r), t);
      for (int head = 0; head < s.num_kv_heads; ++head) {
        const double* key = &k[kv_index(row, head, k_width)];
        const double* value = case_.packed_kv ? &k[kv_index(row, head, k_width)] + qk
                                              : &v[kv_index(row, head, v_width)];
        request.k.insert(request.k.end(), key, key + qk);
        request.v.insert(request.v.end(), value, value + vo);
      }
    }
    scale_heads(request.q, q_scales_, qk);
    scale_heads(request.k, k_scales_, qk);
    scale_heads(request.v, v_scales_, vo);
    const ReferenceResult result = reference_attention(request, options);
    answer.out.insert(answer.out.end(), result.out.begin(), result.out.end());
    answer.lse.insert(answer.lse.end(), result.lse.begin(), result.lse.end());
  }
  return answer;
}

double logit_scale(const AttentionShape& shape, int qo_head) {
  const int kv_head = qo_head / (shape.num_qo_heads / shape.num_kv_heads);
  return kFirstQScale * scale_of_head(qo_head) * kFirstKScale * scale_of_head(kv_head);
}

void expect_equal_runs(const AttentionBatch& batch) {
  BatchAttention attention(test_device());
  batch.plan(attention);
  std::vector<std::uint8_t> first;
  for (int run = 0; run < 4; ++run) {
    const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
    attention.run(batch.q(), batch.kv(), out, {}, batch.options());
    synchronize(test_device());
    if (run == 0) first = out.raw();
    EXPECT_EQ(out.raw(), first);
    if (run == 1) batch.plan(attention);
  }
}

}  // namespace quire::test
