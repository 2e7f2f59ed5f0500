#include "cpu/gemm.h"

#include <omp.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/check.h"
#include "cpu/openblas.h"
#include "cpu/rows.h"

namespace quire::cpu {
namespace {

// A block of weight rows in f32 stays in a core's second-level cache while it is multiplied.
constexpr std::int64_t kWeightBlockBytes = 512 * 1024;
// Rows of `a` for which a converted weight block is used before it is dropped.
constexpr std::int64_t kRowsAtOnce = 256;

std::int64_t weight_rows_at_once(std::int64_t k) {
  const std::int64_t fitting = kWeightBlockBytes / static_cast<std::int64_t>(k * sizeof(float));
  return std::clamp<std::int64_t>(fitting / 16 * 16, 16, 256);
}

// In elements. The stride of a single row is never used, and may be anything.
std::int64_t row_stride(const TensorView& tensor) {
  return tensor.shape[0] <= 1 ? tensor.shape[1] : tensor.strides[0];
}

char* element(const TensorView& tensor, std::int64_t row, std::int64_t column = 0) {
  const std::int64_t offset = row * row_stride(tensor) + column;
  return static_cast<char*>(tensor.data) +
         offset * static_cast<std::int64_t>(size_bytes(tensor.dtype));
}

// Rows of f32, either in place or converted into memory given by the caller.
struct FloatRows {
  const float* data;
  int stride;
};

bool needs_copy(const TensorView& tensor) { return tensor.dtype != DType::f32; }

FloatRows float_rows(const TensorView& tensor, std::int64_t first, std::int64_t count,
                     float* converted) {
  const std::int64_t length = tensor.shape[1];
  if (!needs_copy(tensor)) {
    return {reinterpret_cast<const float*>(element(tensor, first)),
            static_cast<int>(row_stride(tensor))};
  }
  for (std::int64_t i = 0; i < count; ++i) {
    load_row(converted + i * length, tensor.data, check::to_kernel(tensor.dtype),
             (first + i) * row_stride(tensor), static_cast<int>(length));
  }
  return {converted, static_cast<int>(length)};
}

// c[m, n] = a[m, k] weight[n, k]^T in this thread.
void multiply(const OpenBlas& blas, int m, int n, int k, FloatRows a, FloatRows weight, float* c,
              int c_stride) {
  if (m == 1) {  // reads the weight once, where sgemm would first copy it
    blas.sgemv(kRowMajor, kNoTranspose, n, k, 1.f, weight.data, weight.stride, a.data, 1, 0.f, c,
               1);
  } else {
    blas.sgemm(kRowMajor, kNoTranspose, kTranspose, m, n, k, 1.f, a.data, a.stride, weight.data,
               weight.stride, 0.f, c, c_stride);
  }
}

void fill_zero(const TensorView& out) {
  for (std::int64_t i = 0; i < out.shape[0]; ++i) {
    std::fill_n(element(out, i), out.shape[1] * static_cast<std::int64_t>(size_bytes(out.dtype)),
                0);
  }
}

void check_fits_blas(const char* name, const TensorView& tensor) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (std::max({tensor.shape[0], tensor.shape[1], row_stride(tensor)}) <= kMax) return;
  check::fail("gemm", name, to_string(tensor), "sizes and strides below 2^31 on the CPU",
              ErrorCode::not_implemented);
}

}  // namespace

void gemm(const TensorView& a, const TensorView& weight, const TensorView& out) {
  const std::int64_t m = a.shape[0], n = weight.shape[0], k = a.shape[1];
  check_fits_blas("a", a);
  check_fits_blas("weight", weight);
  check_fits_blas("out", out);
  if (k == 0) return fill_zero(out);

  const OpenBlas& blas = openblas();
  const SingleThreadedBlas single_threaded(blas);
  const std::int64_t block_m = std::min(m, kRowsAtOnce);
  const std::int64_t block_n = std::min(n, weight_rows_at_once(k));
  const std::int64_t num_blocks_n = (n + block_n - 1) / block_n;
  // Everything is allocated here: an exception must not leave a thread of the loop below.
  std::vector<float> a_memory(needs_copy(a) ? block_m * k : 0);
  const std::int64_t weight_floats = needs_copy(weight) ? block_n * k : 0;
  const std::int64_t out_floats = needs_copy(out) ? block_m * block_n : 0;
  const auto num_threads = std::min<std::int64_t>(omp_get_max_threads(), num_blocks_n);
  std::vector<float> thread_memory(num_threads * (weight_floats + out_floats));

  for (std::int64_t m0 = 0; m0 < m; m0 += block_m) {
    const std::int64_t rows = std::min(block_m, m - m0);
    const FloatRows a_rows = float_rows(a, m0, rows, a_memory.data());
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
    for (std::int64_t block = 0; block < num_blocks_n; ++block) {
      const std::int64_t n0 = block * block_n, columns = std::min(block_n, n - n0);
      float* mine = thread_memory.data() + omp_get_thread_num() * (weight_floats + out_floats);
      const FloatRows w_rows = float_rows(weight, n0, columns, mine);
      const auto multiply_into = [&](float* c, std::int64_t c_stride) {
        multiply(blas, static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(k),
                 a_rows, w_rows, c, static_cast<int>(c_stride));
      };
      if (!needs_copy(out)) {
        multiply_into(reinterpret_cast<float*>(element(out, m0, n0)), row_stride(out));
        continue;
      }
      float* c = mine + weight_floats;
      multiply_into(c, columns);
      for (std::int64_t i = 0; i < rows; ++i) {
        store_row(out.data, check::to_kernel(out.dtype), (m0 + i) * row_stride(out) + n0,
                  c + i * columns, static_cast<int>(columns));
      }
    }
  }
}

}  // namespace quire::cpu
