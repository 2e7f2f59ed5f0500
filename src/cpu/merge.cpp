#include "cpu/merge.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::MergeStatesConfig;
using kernels::MergeStatesParams;

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

class RowMerger {
 public:
  RowMerger(const MergeStatesConfig& c, const MergeStatesParams& p, std::int64_t row)
      : c_(c), p_(p), entry_(row / p.heads), head_(row % p.heads) {}

  void run() const {
    float largest = kNegInf;
    for (int i = 0; i < p_.num_states; ++i) largest = std::max(largest, s(i));
    // While all are empty any finite shift does: exp(-inf) is 0.
    const float shift = largest == kNegInf ? 0.f : largest;
    float sum = 0.f;
    for (int i = 0; i < p_.num_states; ++i) sum += power(s(i) - shift);
    const std::int64_t out = entry_ * p_.out_entry_stride + head_ * p_.out_head_stride;
    for_each_piece(p_.head_dim, [&](int begin, int n) {
      float merged[kRowPiece] = {}, v[kRowPiece];
      for (int i = 0; i < p_.num_states; ++i) {
        const float weight = power(s(i) - shift) / sum;
        if (weight == 0.f || sum == 0.f) continue;  // an empty state, whose v may be anything
        load_row(v, i == 0 ? p_.v0 : p_.vs, i == 0 ? c_.dtype : c_.others_dtype,
                 v_offset(i) + begin, n);
        for (int x = 0; x < n; ++x) merged[x] += weight * v[x];
      }
      store_row(p_.v_out, c_.out_dtype, out + begin, merged, n);
    });
    p_.s_out[entry_ * p_.heads + head_] =
        sum == 0.f ? kNegInf : largest + (p_.base_e ? std::log(sum) : std::log2(sum));
  }

 private:
  float power(float x) const { return p_.base_e ? std::exp(x) : std::exp2(x); }

  float s(int state) const {
    if (state == 0) return p_.s0[entry_ * p_.s0_entry_stride + head_];
    return p_.ss[entry_ * p_.ss_entry_stride + (state - 1) * p_.ss_state_stride + head_];
  }

  std::int64_t v_offset(int state) const {
    if (state == 0) return entry_ * p_.v0_entry_stride + head_ * p_.v0_head_stride;
    return entry_ * p_.vs_entry_stride + (state - 1) * p_.vs_state_stride +
           head_ * p_.vs_head_stride;
  }

  const MergeStatesConfig& c_;
  const MergeStatesParams& p_;
  std::int64_t entry_, head_;
};

}  // namespace

void merge_states(const MergeStatesConfig& config, const MergeStatesParams& p) {
  const bool parallel =
      p.rows * p.head_dim * (p.num_states + std::int64_t{1}) >= kMinParallelElements;
#pragma omp parallel for if (parallel)
  for (std::int64_t row = 0; row < p.rows; ++row) {
    if (p.mask == nullptr || p.mask[row / p.heads] != 0) RowMerger(config, p, row).run();
  }
}

}  // namespace quire::cpu
