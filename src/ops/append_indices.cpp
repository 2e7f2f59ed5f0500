#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/append.h"
#include "cuda/append.h"
#include "ops/append_rows.h"
#include "quire/append.h"

namespace quire {

using check::Arg;

void get_batch_indices_positions(const TensorView& append_indptr, const TensorView& seq_lens,
                                 const TensorView& batch_indices, const TensorView& positions,
                                 Stream stream) {
  constexpr const char* kOp = "get_batch_indices_positions";
  const Arg indptr{kOp, "append_indptr", append_indptr}, lens{kOp, "seq_lens", seq_lens};
  const Arg requests{kOp, "batch_indices", batch_indices}, tokens{kOp, "positions", positions};
  check_index_vector(indptr, indptr);
  check_index_vector(lens, indptr);
  check_index_vector(requests, indptr, true);
  check_index_vector(tokens, indptr, true);
  check::dim(lens, 0, batch_of_indptr(indptr), "batch of append_indptr");
  check::same_shape(tokens, requests);

  kernels::BatchIndicesParams p{};
  p.append_indptr = static_cast<const std::int32_t*>(append_indptr.data);
  p.seq_lens = static_cast<const std::int32_t*>(seq_lens.data);
  p.batch_indices = static_cast<std::int32_t*>(batch_indices.data);
  p.positions = static_cast<std::int32_t*>(positions.data);
  p.append_indptr_stride = rows::step(append_indptr, 0);
  p.seq_lens_stride = rows::step(seq_lens, 0);
  p.batch_indices_stride = rows::step(batch_indices, 0);
  p.positions_stride = rows::step(positions, 0);
  p.batch_size = rows::count(indptr, append_indptr.shape[0], "entries") - 1;
  p.nnz = rows::count(requests, batch_indices.shape[0], "tokens");

  if (append_indptr.device.is_cpu()) {
    check_host_indptr(indptr);
    const std::int32_t total = host_value(append_indptr, p.batch_size);
    if (total > p.nnz) {
      fail_at(indptr, p.batch_size, fmt::format("at most {}, the size of batch_indices", p.nnz));
    }
    for (std::int64_t r = 0; r < p.batch_size; ++r) {
      const std::int32_t added = host_value(append_indptr, r + 1) - host_value(append_indptr, r);
      if (host_value(seq_lens, r) < added) {
        fail_at(lens, r, fmt::format("{} or more, the tokens appended to it", added));
      }
    }
  }
  dispatch(
      kOp, append_indptr.device, [&] { cpu::batch_indices_positions(p); },
      [&] { cuda::batch_indices_positions(p, append_indptr.device.index, stream); });
}

void get_seq_lens(const TensorView& kv_indptr, const TensorView& kv_last_page_len, int page_size,
                  const TensorView& seq_lens, Stream stream) {
  constexpr const char* kOp = "get_seq_lens";
  const Arg indptr{kOp, "kv_indptr", kv_indptr}, last{kOp, "kv_last_page_len", kv_last_page_len};
  const Arg lens{kOp, "seq_lens", seq_lens};
  check_index_vector(indptr, indptr);
  check_index_vector(last, indptr);
  check_index_vector(lens, indptr, true);
  check::dim(last, 0, batch_of_indptr(indptr), "batch of kv_indptr");
  check::dim(lens, 0, batch_of_indptr(indptr), "batch of kv_indptr");
  if (page_size < 1) check::fail(kOp, "page_size", std::to_string(page_size), "1 or more");

  kernels::SeqLensParams p{};
  p.kv_indptr = static_cast<const std::int32_t*>(kv_indptr.data);
  p.kv_last_page_len = static_cast<const std::int32_t*>(kv_last_page_len.data);
  p.seq_lens = static_cast<std::int32_t*>(seq_lens.data);
  p.kv_indptr_stride = rows::step(kv_indptr, 0);
  p.kv_last_page_len_stride = rows::step(kv_last_page_len, 0);
  p.seq_lens_stride = rows::step(seq_lens, 0);
  p.batch_size = rows::count(indptr, kv_indptr.shape[0], "entries") - 1;
  p.page_size = page_size;

  if (kv_indptr.device.is_cpu()) {
    check_host_indptr(indptr);
    check_host_last_page_len(indptr, last, page_size);
  }
  dispatch(
      kOp, kv_indptr.device, [&] { cpu::seq_lens(p); },
      [&] { cuda::seq_lens(p, kv_indptr.device.index, stream); });
}

}  // namespace quire
