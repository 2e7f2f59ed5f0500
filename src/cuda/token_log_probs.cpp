#include "cuda/token_log_probs.h"

#include <iterator>

#include "cuda/cluster_row.h"

namespace quire::cuda {

using kernels::DType;
using kernels::RowConfig;
using kernels::RowKeys;

namespace {

constexpr RowKernel kTokenLogProbs{.folder = "sampling",
                                   .name = "token_log_probs",
                                   .params_type = "TokenLogProbsParams",
                                   .own_bytes = 0,
                                   // Sums of floats: a row's must not depend on the others.
                                   .max_cluster_rows = kAllRows,
                                   .holds_rows = false};

}  // namespace

void token_log_probs(DType dtype, const kernels::TokenLogProbsParams& params, int device_index,
                     Stream stream) {
  const RowConfig config =
      row_config(kTokenLogProbs, RowKeys::weights, {params.in.rows, params.in.vocab},
                 {{params.in.data, params.in.stride, dtype}}, device_index);
  launch_rows(row_spec(kTokenLogProbs, config, params.in.vocab), params.in.rows, device_index,
              stream, params);
}

std::vector<ListedKernel> token_log_probs_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    std::vector<ListedKernel> kernels = row_kernels(kTokenLogProbs, dtype, RowKeys::weights);
    std::move(kernels.begin(), kernels.end(), std::back_inserter(list));
  }
  return list;
}

}  // namespace quire::cuda
