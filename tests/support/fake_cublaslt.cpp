#include "support/fake_cublaslt.h"

#include <cstdint>
#include <cstring>
#include <mutex>

#include "core/numeric.h"
#include "quire/tensor.h"

namespace quire::test {
namespace {

namespace lt = cuda::cublaslt;
using lt::Status;

constexpr Status kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;

struct FakeDesc {
  int compute_type, scale_type;
  std::int32_t transpose_a = lt::kOpN, transpose_b = lt::kOpN;
};

struct FakeLayout {
  int type;
  std::uint64_t rows, columns;
  std::int64_t leading_dimension;
};

struct FakePreference {
  std::uint64_t max_workspace_bytes = 0;
  std::uint32_t reduction_schemes = ~0u;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // a, b, c, d; the library's default
};

FakeCublasLtCalls calls;

template <class T>
const T& as(const void* object) {
  return *static_cast<const T*>(object);
}

Status create(lt::Handle* handle) {
  static int object;
  *handle = &object;
  ++calls.handles;
  return kSuccess;
}

const char* get_status_string(Status) { return "fake status"; }

Status desc_create(lt::MatmulDesc* desc, int compute_type, int scale_type) {
  *desc = new FakeDesc{compute_type, scale_type};
  return kSuccess;
}

Status desc_destroy(lt::MatmulDesc desc) {
  delete static_cast<FakeDesc*>(desc);
  return kSuccess;
}

Status desc_set(lt::MatmulDesc desc, int attribute, const void* value, std::size_t bytes) {
  auto& fake = *static_cast<FakeDesc*>(desc);
  if (bytes != sizeof(std::int32_t)) return kInvalidValue;
  if (attribute != lt::kTransA && attribute != lt::kTransB) return kInvalidValue;
  std::memcpy(attribute == lt::kTransA ? &fake.transpose_a : &fake.transpose_b, value, bytes);
  return kSuccess;
}

Status layout_create(lt::Layout* layout, int type, std::uint64_t rows, std::uint64_t columns,
                     std::int64_t leading_dimension) {
  if (leading_dimension < static_cast<std::int64_t>(rows)) return kInvalidValue;
  *layout = new FakeLayout{type, rows, columns, leading_dimension};
  return kSuccess;
}

Status layout_destroy(lt::Layout layout) {
  delete static_cast<FakeLayout*>(layout);
  return kSuccess;
}

Status preference_create(lt::Preference* preference) {
  *preference = new FakePreference;
  return kSuccess;
}

Status preference_destroy(lt::Preference preference) {
  delete static_cast<FakePreference*>(preference);
  return kSuccess;
}

Status preference_set(lt::Preference preference, int attribute, const void* value,
                      std::size_t bytes) {
  auto& fake = *static_cast<FakePreference*>(preference);
  if (attribute == lt::kMaxWorkspaceBytes && bytes == sizeof(std::uint64_t)) {
    std::memcpy(&fake.max_workspace_bytes, value, bytes);
    return kSuccess;
  }
  if (attribute == lt::kReductionSchemeMask && bytes == sizeof(std::uint32_t)) {
    std::memcpy(&fake.reduction_schemes, value, bytes);
    return kSuccess;
  }
  const int matrix = attribute - lt::kMinAlignmentA;
  if (matrix < 0 || matrix > 3 || bytes != sizeof(std::uint32_t)) return kInvalidValue;
  std::memcpy(&fake.alignment[matrix], value, bytes);
  return kSuccess;
}

std::uint64_t op_rows(const FakeLayout& layout, std::int32_t op) {
  return op == lt::kOpT ? layout.columns : layout.rows;
}
std::uint64_t op_columns(const FakeLayout& layout, std::int32_t op) {
  return op == lt::kOpT ? layout.rows : layout.columns;
}

bool fits(const FakeDesc& desc, const FakeLayout& a, const FakeLayout& b, const FakeLayout& d) {
  return desc.compute_type == lt::kCompute32F && desc.scale_type == lt::kR32F && a.type == b.type &&
         (d.type == a.type || d.type == lt::kR32F) && op_rows(a, desc.transpose_a) == d.rows &&
         op_columns(b, desc.transpose_b) == d.columns &&
         op_columns(a, desc.transpose_a) == op_rows(b, desc.transpose_b);
}

// The chosen "algorithm" remembers what it was chosen for: sizes and alignments.
Status get_heuristic(lt::Handle, lt::MatmulDesc desc, lt::Layout a, lt::Layout b, lt::Layout c,
                     lt::Layout d, lt::Preference preference, int requested,
                     lt::HeuristicResult* results, int* returned) {
  if (requested < 1 || c != d) return kInvalidValue;
  if (!fits(as<FakeDesc>(desc), as<FakeLayout>(a), as<FakeLayout>(b), as<FakeLayout>(d))) {
    return kNotSupported;
  }
  const auto& wanted = as<FakePreference>(preference);
  // Others may round partial sums to the dtype of d.
  if (wanted.reduction_schemes != lt::kReduceInComputeType) return kNotSupported;
  results[0] = {};
  results[0].algo.data[0] = as<FakeLayout>(d).rows * 1000003 + as<FakeLayout>(d).columns;
  for (int i = 0; i < 4; ++i) results[0].algo.data[1 + i] = wanted.alignment[i];
  results[0].workspace_bytes = wanted.max_workspace_bytes / 2;
  *returned = 1;
  ++calls.heuristics;
  calls.last_workspace_bytes = wanted.max_workspace_bytes;
  return kSuccess;
}

DType dtype_of(int type) {
  return type == lt::kR32F ? DType::f32 : type == lt::kR16F ? DType::f16 : DType::bf16;
}

// Element (row, column) of op(matrix).
float element(const void* data, const FakeLayout& layout, std::int32_t op, std::uint64_t row,
              std::uint64_t column) {
  if (op == lt::kOpT) std::swap(row, column);
  const std::uint64_t at = row + column * static_cast<std::uint64_t>(layout.leading_dimension);
  return numeric::load(data, dtype_of(layout.type), static_cast<std::int64_t>(at));
}

Status matmul(lt::Handle handle, lt::MatmulDesc desc_object, const void* alpha, const void* a,
              lt::Layout a_object, const void* b, lt::Layout b_object, const void* beta,
              const void* c, lt::Layout c_object, void* d, lt::Layout d_object,
              const lt::Algo* algo, void* workspace, std::size_t workspace_bytes, void*) {
  const auto& desc = as<FakeDesc>(desc_object);
  const auto &a_layout = as<FakeLayout>(a_object), &b_layout = as<FakeLayout>(b_object),
             &d_layout = as<FakeLayout>(d_object);
  if (handle == nullptr || c != d || c_object != d_object) return kInvalidValue;
  if (as<float>(alpha) != 1.f || as<float>(beta) != 0.f) return kInvalidValue;
  if (algo->data[0] != d_layout.rows * 1000003 + d_layout.columns) return kInvalidValue;
  const void* matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<std::uintptr_t>(matrices[i]) % algo->data[1 + i] != 0) {
      return kInvalidValue;
    }
  }
  // Products of one stream run one after another: their workspace is one.
  static std::mutex stream;
  const std::lock_guard lock(stream);
  if (workspace_bytes > 0) std::memset(workspace, 0xff, workspace_bytes);
  const std::uint64_t k = op_columns(a_layout, desc.transpose_a);
  for (std::uint64_t column = 0; column < d_layout.columns; ++column) {
    for (std::uint64_t row = 0; row < d_layout.rows; ++row) {
      double sum = 0;
      for (std::uint64_t i = 0; i < k; ++i) {
        sum += static_cast<double>(element(a, a_layout, desc.transpose_a, row, i)) *
               element(b, b_layout, desc.transpose_b, i, column);
      }
      const std::uint64_t at =
          row + column * static_cast<std::uint64_t>(d_layout.leading_dimension);
      numeric::store(d, dtype_of(d_layout.type), static_cast<std::int64_t>(at),
                     static_cast<float>(sum));
    }
  }
  ++calls.products;
  return kSuccess;
}

}  // namespace

const cuda::CublasLtTable& fake_cublaslt() {
  static const cuda::CublasLtTable table{create,         get_status_string, desc_create,
                                         desc_destroy,   desc_set,          layout_create,
                                         layout_destroy, preference_create, preference_destroy,
                                         preference_set, get_heuristic,     matmul};
  return table;
}

FakeCublasLtCalls fake_cublaslt_calls() { return calls; }

}  // namespace quire::test
