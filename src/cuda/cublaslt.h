// cuBLASLt, by dlopen: one table of entry points that tests replace by a fake. Types and values are
// those of the library's C ABI, the same in versions 12 and 13.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire::cuda {

namespace cublaslt {

using Status = int;  // cublasStatus_t; 0 is success
using Handle = void*;
using MatmulDesc = void*;
using Layout = void*;
using Preference = void*;

struct Algo {  // opaque
  std::uint64_t data[8];
};

struct HeuristicResult {
  Algo algo;
  std::size_t workspace_bytes;
  Status state;
  float waves_count;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

enum DataType : int { kR32F = 0, kR16F = 2, kR16BF = 14 };
inline constexpr int kCompute32F = 68;                        // f32 products and sums, no TF32
enum MatmulDescAttribute : int { kTransA = 3, kTransB = 4 };  // int32 values:
enum Operation : std::int32_t { kOpN = 0, kOpT = 1 };
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,    // uint64
  kReductionSchemeMask = 3,  // uint32
  kMinAlignmentA = 5,        // uint32 bytes
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
// Partial sums of split k are kept and added in f32. The other schemes round them to the output's
// dtype: an error of 0.3 was seen in bf16 at k 9000.
inline constexpr std::uint32_t kReduceInComputeType = 2;

}  // namespace cublaslt

struct CublasLtTable {
  using Status = cublaslt::Status;
  Status (*create)(cublaslt::Handle* handle);
  const char* (*get_status_string)(Status status);
  Status (*matmul_desc_create)(cublaslt::MatmulDesc* desc, int compute_type, int scale_type);
  Status (*matmul_desc_destroy)(cublaslt::MatmulDesc desc);
  Status (*matmul_desc_set_attribute)(cublaslt::MatmulDesc desc, int attribute, const void* value,
                                      std::size_t bytes);
  // Column-major: element (row, column) is at row + column * leading_dimension.
  Status (*matrix_layout_create)(cublaslt::Layout* layout, int type, std::uint64_t rows,
                                 std::uint64_t columns, std::int64_t leading_dimension);
  Status (*matrix_layout_destroy)(cublaslt::Layout layout);
  Status (*matmul_preference_create)(cublaslt::Preference* preference);
  Status (*matmul_preference_destroy)(cublaslt::Preference preference);
  Status (*matmul_preference_set_attribute)(cublaslt::Preference preference, int attribute,
                                            const void* value, std::size_t bytes);
  Status (*matmul_algo_get_heuristic)(cublaslt::Handle handle, cublaslt::MatmulDesc desc,
                                      cublaslt::Layout a, cublaslt::Layout b, cublaslt::Layout c,
                                      cublaslt::Layout d, cublaslt::Preference preference,
                                      int requested, cublaslt::HeuristicResult* results,
                                      int* returned);
  // d = alpha op(a) op(b) + beta c; alpha and beta on the host.
  Status (*matmul)(cublaslt::Handle handle, cublaslt::MatmulDesc desc, const void* alpha,
                   const void* a, cublaslt::Layout a_layout, const void* b,
                   cublaslt::Layout b_layout, const void* beta, const void* c,
                   cublaslt::Layout c_layout, void* d, cublaslt::Layout d_layout,
                   const cublaslt::Algo* algo, void* workspace, std::size_t workspace_bytes,
                   void* stream);
};

// Loads the library at the first call. Throws Error{device_unavailable} saying where it looked.
const CublasLtTable& cublaslt_table();
// Tests only. Null puts the real one back. Also forgets handles, plans and workspaces of gemm.
void replace_cublaslt_for_testing(const CublasLtTable* table);

// Throws Error{driver} naming call and status.
void check_cublaslt(cublaslt::Status status, const char* call);

}  // namespace quire::cuda
