#include "core/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace quire::check {
namespace {

// The first `rank` of a view's shape or strides; a rank out of bounds is memory()'s to report.
std::span<const std::int64_t> used(const TensorView& tensor,
                                   const std::array<std::int64_t, kMaxRank>& values) {
  return std::span(values).first(static_cast<std::size_t>(std::clamp(tensor.rank, 0, kMaxRank)));
}

std::string shape_text(const TensorView& tensor) {
  return fmt::format("[{}]", fmt::join(used(tensor, tensor.shape), ", "));
}

std::string strides_text(const TensorView& tensor) {
  return fmt::format("[{}]", fmt::join(used(tensor, tensor.strides), ", "));
}

[[noreturn]] void fail(const Arg& arg, const std::string& got, const std::string& expected) {
  check::fail(arg.op, arg.name, got, expected);
}

// Sorted by stride, every dimension must step over all that the smaller ones reach.
bool has_overlap(const TensorView& tensor) {
  std::vector<std::pair<std::int64_t, std::int64_t>> dims;  // |stride|, size
  for (int i = 0; i < tensor.rank; ++i) {
    if (tensor.shape[i] > 1) dims.emplace_back(std::abs(tensor.strides[i]), tensor.shape[i]);
  }
  std::ranges::sort(dims);
  std::int64_t extent = 1;  // elements from the first to the last one reached so far
  for (const auto& [stride, size] : dims) {
    if (stride < extent) return true;
    extent += (size - 1) * stride;
  }
  return false;
}

}  // namespace

void fail(std::string_view op, std::string_view argument, const std::string& got,
          const std::string& expected, ErrorCode code) {
  throw Error(code, fmt::format("{}: {}: got {}, expected {}", op, argument, got, expected));
}

void rank(const Arg& arg, int expected) {
  if (arg.tensor.rank == expected) return;
  fail(arg, fmt::format("rank {} (shape {})", arg.tensor.rank, shape_text(arg.tensor)),
       fmt::format("rank {}", expected));
}

void rank_at_least(const Arg& arg, int expected) {
  if (arg.tensor.rank >= expected) return;
  fail(arg, fmt::format("rank {} (shape {})", arg.tensor.rank, shape_text(arg.tensor)),
       fmt::format("rank {} or more", expected));
}

void dim(const Arg& arg, int index, std::int64_t expected, std::string_view meaning) {
  if (index >= arg.tensor.rank) rank_at_least(arg, index + 1);
  if (arg.tensor.shape[index] == expected) return;
  fail(arg,
       fmt::format("{} in dimension {} (shape {})", arg.tensor.shape[index], index,
                   shape_text(arg.tensor)),
       fmt::format("{} ({})", expected, meaning));
}

void dtype(const Arg& arg, std::initializer_list<DType> allowed) {
  if (std::ranges::find(allowed, arg.tensor.dtype) != allowed.end()) return;
  std::vector<std::string_view> names;
  for (const DType each : allowed) names.push_back(quire::name(each));
  check::fail(arg.op, arg.name, std::string(quire::name(arg.tensor.dtype)),
              fmt::format("{}", fmt::join(names, " or ")), ErrorCode::wrong_type);
}

void last_dim_contiguous(const Arg& arg) {
  const int last = arg.tensor.rank - 1;
  if (last < 0 || arg.tensor.shape[last] <= 1 || arg.tensor.strides[last] == 1) return;
  if (arg.tensor.numel() == 0) return;  // strides of empty arrays mean nothing; NumPy's are 0
  fail(arg, fmt::format("strides {}", strides_text(arg.tensor)), "stride 1 in the last dimension");
}

void contiguous(const Arg& arg) {
  if (arg.tensor.is_contiguous()) return;
  fail(arg,
       fmt::format("strides {} for shape {}", strides_text(arg.tensor), shape_text(arg.tensor)),
       "a contiguous tensor");
}

void device(const Arg& arg, const Arg& like) {
  if (arg.tensor.device == like.tensor.device) return;
  fail(arg, to_string(arg.tensor.device),
       fmt::format("{}, the device of {}", to_string(like.tensor.device), like.name));
}

void same_shape(const Arg& arg, const Arg& like) {
  const auto shape = used(arg.tensor, arg.tensor.shape);
  if (std::ranges::equal(shape, used(like.tensor, like.tensor.shape))) return;
  fail(arg, fmt::format("shape {}", shape_text(arg.tensor)),
       fmt::format("{}, the shape of {}", shape_text(like.tensor), like.name));
}

void memory(const Arg& arg, bool is_output) {
  const TensorView& tensor = arg.tensor;
  if (tensor.rank < 0 || tensor.rank > kMaxRank) {
    fail(arg, fmt::format("rank {}", tensor.rank), fmt::format("rank 0 to {}", kMaxRank));
  }
  bool empty = false, overflow = false;
  std::int64_t numel = 1;
  for (int i = 0; i < tensor.rank; ++i) {
    if (tensor.shape[i] < 0)
      fail(arg, "shape " + shape_text(tensor), "sizes that are not negative");
    empty |= tensor.shape[i] == 0;
    overflow |= __builtin_mul_overflow(numel, tensor.shape[i], &numel);
  }
  if (empty) return;
  if (overflow) fail(arg, "shape " + shape_text(tensor), "fewer than 2^63 elements");
  if (tensor.data == nullptr) {
    fail(arg, "a null pointer", fmt::format("memory for shape {}", shape_text(tensor)));
  }
  const std::size_t element_bytes = size_bytes(tensor.dtype);
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % element_bytes != 0) {
    fail(arg, fmt::format("address {}", fmt::ptr(tensor.data)),
         fmt::format("an address aligned to {} bytes for {}", element_bytes,
                     quire::name(tensor.dtype)));
  }
  if (is_output && has_overlap(tensor)) {
    fail(arg, fmt::format("strides {} for shape {}", strides_text(tensor), shape_text(tensor)),
         "an output whose elements do not overlap");
  }
}

void finite_positive(std::string_view op, std::string_view argument, double value) {
  if (std::isfinite(value) && value > 0) return;
  check::fail(op, argument, fmt::format("{}", value), "a finite number above 0");
}

bool rows_aligned(const TensorView& tensor, int bytes) {
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<unsigned>(bytes) != 0) {
    return false;
  }
  const auto element_bytes = static_cast<std::int64_t>(size_bytes(tensor.dtype));
  for (int i = 0; i + 1 < tensor.rank; ++i) {
    if (tensor.strides[i] * element_bytes % bytes != 0) return false;
  }
  return true;
}

}  // namespace quire::check
