// How near an answer must be to the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/attention_case.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 1e-5;
    case DType::f16:
      return 5e-4;
    default:
      return 3e-3;
  }
}

// Operands are rounded too: the probabilities on a GPU, so the coarsest type decides. With fp8
// queries those have 3 mantissa bits: errors of up to 2^-4, 0.0255 in the mean square over a
// binade, that do not average out against values of random sign; fewer terms, more spread.
double tolerance(const AttentionShape& shape) {
  if (shape.q_dtype == DType::f8e4m3 && test_device().is_cuda()) return 0.04;
  return std::max(tolerance(shape.o_dtype), tolerance(shape.q_dtype));
}

}  // namespace

void expect_near(const AttentionAnswer& answer, const AttentionAnswer& reference,
                 const AttentionCase& c) {
  const auto vo = static_cast<std::size_t>(c.shape.head_dim_vo);
  const double bound = tolerance(c.shape);
  ASSERT_EQ(answer.out.size(), reference.out.size());
  ASSERT_EQ(answer.lse.size(), c.with_lse ? reference.lse.size() : 0);
  std::vector<double> out, expected, lse, expected_lse;
  // Hopper adds the products of 8-bit operands with about 14 bits, anew for every 32 of them.
  // Scales of heads make logits large, also in rows of which the lse is not.
  const bool coarse = on_gpu() && c.shape.q_dtype == DType::f8e4m3,
             scaled = coarse && c.head_scales;
  const double lse_bound = coarse ? 1e-3 : 1e-4;
  for (std::size_t row = 0; row < reference.lse.size(); ++row) {
    const auto begin = static_cast<std::ptrdiff_t>(row * vo);
    const std::vector<double> got(answer.out.begin() + begin,
                                  answer.out.begin() + begin + static_cast<std::ptrdiff_t>(vo));
    if (std::isnan(reference.lse[row])) {
      ASSERT_TRUE(std::ranges::all_of(got, [](double x) { return std::isfinite(x); }))
          << "row " << row;
      continue;
    }
    const std::vector<double> want(reference.out.begin() + begin,
                                   reference.out.begin() + begin + static_cast<std::ptrdiff_t>(vo));
    // A single row may be several times worse than the whole. What f16 has below its normal range
    // is good to half of 2^-24 only: a row that a sink leaves next to nothing.
    const double size = std::sqrt(std::inner_product(want.begin(), want.end(), want.begin(), 0.0));
    const double steps = c.shape.o_dtype == DType::f16 ? std::sqrt(double(vo)) / (1 << 25) : 0;
    ASSERT_LE(relative_error(got, want), 8 * bound + (size > 0 ? steps / size : 0))
        << "row " << row;
    out.insert(out.end(), got.begin(), got.end());
    expected.insert(expected.end(), want.begin(), want.end());
    if (!c.with_lse) continue;
    lse.push_back(answer.lse[row]);
    expected_lse.push_back(reference.lse[row]);
    if (std::isinf(reference.lse[row])) {
      ASSERT_EQ(answer.lse[row], reference.lse[row]) << "row " << row;
    } else {
      const int head = static_cast<int>(row % static_cast<std::size_t>(c.shape.num_qo_heads));
      const double of_scales = scaled ? lse_bound * logit_scale(c.shape, head) : 0;
      ASSERT_NEAR(answer.lse[row], reference.lse[row],
                  lse_bound * std::max(1.0, std::fabs(reference.lse[row])) + of_scales)
          << "row " << row;
    }
  }
  EXPECT_LE(relative_error(out, expected), bound);
  EXPECT_LE(relative_error(lse, expected_lse), lse_bound / (scaled ? 2.5 : 5));  // no rows: 0
}

}  // namespace quire::test
