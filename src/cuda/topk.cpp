#include "cuda/topk.h"

#include <iterator>

#include "cuda/cluster_row.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RowKeys;

constexpr RowKernel kTopK{
    .folder = "topk", .name = "top_k", .params_type = "TopkParams", .finds_candidates = true};

}  // namespace

void top_k(DType dtype, const kernels::TopkParams& params, int device_index, Stream stream) {
  // A window may begin at any element.
  const std::int64_t stride = params.starts.values == nullptr ? params.in.stride : 1;
  const kernels::RowConfig config =
      row_config(kTopK, RowKeys::ordered, {params.in.rows, params.in.vocab, params.k},
                 {{params.in.data, stride, dtype}}, device_index);
  launch_rows(row_spec(kTopK, config, params.in.vocab), params.in.rows, device_index, stream,
              params);
}

std::vector<ListedKernel> topk_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    std::vector<ListedKernel> more = row_kernels(kTopK, dtype, RowKeys::ordered);
    std::move(more.begin(), more.end(), std::back_inserter(list));
  }
  return list;
}

}  // namespace quire::cuda
