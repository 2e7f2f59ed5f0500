// One batch for the attention tests: its tensors with poison everywhere that must not be read, the
// operator's answer and the reference's.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "quire/attention.h"
#include "support/attention_variants.h"
#include "support/test_tensor.h"

namespace quire::test {

struct AttentionCase {
  std::string name;
  AttentionShape shape{
      .num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .page_size = 16};
  std::vector<int> qo_lens{1};
  std::vector<int> kv_lens{1};
  bool packed_kv = false;  // K and V are views of rows of head_dim_qk + head_dim_vo
  int odd_stride = 0;      // extra elements a row of q, k, v and out
  bool causal = false;
  int window_left = -1;
  float sm_scale = 0;
  float logits_soft_cap = 0;
  float k_scale = 1, v_scale = 1;
  float q_tensor_scale = 1;  // the option q_scale
  bool head_scales = false;  // q_scales, k_scales and v_scales of the tensors that are fp8
  bool sinks = false;
  bool alibi = false;
  bool custom_mask = false;
  bool empty_mask_rows = false;  // some rows of the custom mask see nothing
  LseBase lse_base = LseBase::e;
  bool with_lse = true;
  AttentionPlanOptions plan{};  // causal and window are set only if the test wants the hints
  std::optional<VariantCase> variant{};  // put into plan by AttentionBatch
  bool indices_on_device = false;
  double q_scale = 1;          // of the random q
  bool clean_padding = false;  // zeros, not NaN, where no request has a token
  int row_step = 1;            // the reference checks every row_step-th row
};

inline void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name; }

struct AttentionAnswer {
  std::vector<double> out, lse;
};

class AttentionBatch {
 public:
  explicit AttentionBatch(const AttentionCase& c, std::uint64_t seed = 1);

  // Plans and runs with poisoned outputs and workspace on the device under test; fails the current
  // test when a guard was overwritten.
  AttentionAnswer run() const;
  AttentionAnswer reference() const;

  // The parts, for tests that plan or run by themselves.
  const AttentionCase& parameters() const { return case_; }
  void plan(BatchAttention& attention) const;
  TensorView q() const { return rows_view(q_, case_.shape.head_dim_qk); }
  PagedKv kv() const { return {k_view(), v_view(), case_.shape.layout}; }
  PageTable table() const { return {kv_indptr_, kv_indices_, last_page_len_}; }
  TensorView qo_indptr() const { return qo_indptr_; }
  TensorView kv_indptr() const { return kv_indptr_; }
  AttentionOptions options() const;
  std::size_t workspace_bytes() const;
  Shape out_shape() const;
  Shape lse_shape() const;

 private:
  struct Pages {
    std::vector<std::int32_t> indptr{0}, indices, last_page_len;
    std::int64_t pool_rows = 0;  // tokens the pool, or ragged k and v, have room for
  };
  static Pages make_pages(const AttentionCase& c, std::uint64_t seed);

  bool paged() const { return case_.shape.page_size > 0; }
  std::int64_t total_q() const;
  std::int64_t kv_row(int request, int token) const;  // page * page_size + offset, or ragged row
  // Row-major index in a K or V tensor whose rows are `width` wide.
  std::size_t kv_index(std::int64_t row, int head, int width) const;
  Shape kv_shape(int width) const;
  TestTensor make_kv(int width, std::uint64_t seed) const;
  TensorView k_view() const;
  TensorView v_view() const;
  TensorView rows_view(const TestTensor& tensor, int head_dim) const;

  AttentionCase case_;
  Pages pages_;
  TestTensor q_, k_, v_;  // packed_kv: k_ holds both, v_ is unused
  TestTensor qo_indptr_, kv_indptr_, kv_indices_, last_page_len_;
  std::vector<std::vector<bool>> mask_bits_;  // [batch][qo_len * kv_len]
  std::optional<TestTensor> mask_, mask_indptr_, sinks_, alibi_slopes_;
  std::optional<TestTensor> q_scales_, k_scales_, v_scales_;
  std::vector<TestTensor> variant_tensors_;
};

// What head_scales multiply the logits of a head by where q and k have 8 bits.
double logit_scale(const AttentionShape& shape, int qo_head);

// Runs of one plan, and of the same plan made again, give the same bits: what kernels count in
// memory of the plan is as it was after each.
void expect_equal_runs(const AttentionBatch& batch);

// Expects answer near reference: relative Frobenius error over all rows and for each row, exact
// zeros and -inf for empty rows. Rows the reference skipped (NaN) must be finite or empty.
void expect_near(const AttentionAnswer& answer, const AttentionAnswer& reference,
                 const AttentionCase& c);

}  // namespace quire::test
