#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/quantize.h"
#include "cuda/quantize.h"
#include "ops/append_rows.h"
#include "quire/quantize.h"

namespace quire {
namespace {

using check::Arg;
using kernels::PackParams;

PackParams check_and_fill(const Arg& x, const Arg& out) {
  check::rank(x, 1);
  check::dtype(x, {DType::boolean, DType::u8});
  check::memory(x);
  check::rank(out, 1);
  check::dtype(out, {DType::u8});
  check::contiguous(out);
  check::device(out, x);
  check::memory(out, true);
  PackParams p{};
  p.x = static_cast<const kernels::u8*>(x.tensor.data);
  p.out = static_cast<kernels::u8*>(out.tensor.data);
  p.x_stride = rows::step(x.tensor, 0);
  p.num_elements = x.tensor.shape[0];
  p.num_bytes = out.tensor.shape[0];
  return p;
}

void run(const char* op, const PackParams& p, BitOrder order, Device device, Stream stream) {
  if (p.num_bytes == 0) return;
  const kernels::PackConfig config{.big_endian = order == BitOrder::big};
  dispatch(
      op, device, [&] { cpu::packbits(config, p); },
      [&] { cuda::packbits(config, p, device.index, stream); });
}

void check_host_segments(const Arg& indptr, const Arg& out_indptr, const PackParams& p) {
  check_host_indptr(indptr);
  check_host_indptr(out_indptr);
  const auto last = static_cast<std::int64_t>(p.segments);
  if (p.indptr[last] != p.num_elements) {
    fail_at(indptr, last, fmt::format("{}, the elements of x", p.num_elements));
  }
  for (std::int64_t r = 0; r < last; ++r) {
    const std::int32_t bytes = (p.indptr[r + 1] - p.indptr[r] + 7) / 8;
    if (p.out_indptr[r + 1] - p.out_indptr[r] != bytes) {
      fail_at(
          out_indptr, r + 1,
          fmt::format("{}, {} bytes after the entry before it", p.out_indptr[r] + bytes, bytes));
    }
  }
  if (p.out_indptr[last] != p.num_bytes) {
    fail_at(out_indptr, last, fmt::format("{}, the bytes of out", p.num_bytes));
  }
}

}  // namespace

void packbits(const TensorView& x, const TensorView& out, BitOrder order, Stream stream) {
  constexpr const char* kOp = "packbits";
  const Arg x_arg{kOp, "x", x}, out_arg{kOp, "out", out};
  const PackParams p = check_and_fill(x_arg, out_arg);
  check::dim(out_arg, 0, (p.num_elements + 7) / 8, "eighths of x, rounded up");
  run(kOp, p, order, x.device, stream);
}

void segment_packbits(const TensorView& x, const TensorView& indptr, const TensorView& out_indptr,
                      const TensorView& out, BitOrder order, Stream stream) {
  constexpr const char* kOp = "segment_packbits";
  const Arg x_arg{kOp, "x", x};
  PackParams p = check_and_fill(x_arg, {kOp, "out", out});
  const Arg from{kOp, "indptr", indptr}, to{kOp, "out_indptr", out_indptr};
  for (const Arg& arg : {from, to}) {
    check_index_vector(arg, x_arg);
    check::contiguous(arg);
  }
  p.segments = rows::count(from, batch_of_indptr(from), "segments");
  check::dim(to, 0, indptr.shape[0], "entries of indptr");
  p.indptr = static_cast<const std::int32_t*>(indptr.data);
  p.out_indptr = static_cast<const std::int32_t*>(out_indptr.data);
  if (x.device.is_cpu()) check_host_segments(from, to, p);
  if (p.segments == 0) return;
  run(kOp, p, order, x.device, stream);
}

}  // namespace quire
