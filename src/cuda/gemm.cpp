#include "cuda/gemm.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "cuda/cublaslt.h"
#include "cuda/driver.h"
#include "cuda/memory.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using cublaslt::Status;

// What the fastest algorithms ask for on Hopper; smaller ones serve the rest.
constexpr std::size_t kWorkspaceBytes = 32 << 20;
// Serving meets a new number of rows often; beyond this many plans they are all chosen again.
constexpr std::size_t kMaxPlans = 4096;
// The alignment beyond which no algorithm asks for more.
constexpr std::uint32_t kMaxAlignmentBytes = 256;

// A matrix as cuBLASLt sees it: column-major, so a row-major matrix is its transpose.
struct Matrix {
  DType dtype;
  std::int64_t rows, columns, leading_dimension;
  std::uint32_t alignment_bytes;
  auto operator<=>(const Matrix&) const = default;
};

struct PlanKey {
  int device_index;
  Matrix weight, a, out;
  std::size_t workspace_bytes;
  auto operator<=>(const PlanKey&) const = default;
};

using Owned = std::unique_ptr<void, Status (*)(void*)>;

struct Plan {
  Owned desc, weight, a, out;
  cublaslt::HeuristicResult choice;
};

int data_type(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return cublaslt::kR16F;
    case DType::bf16:
      return cublaslt::kR16BF;
    default:
      return cublaslt::kR32F;
  }
}

std::uint32_t alignment_bytes(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | kMaxAlignmentBytes;
  return 1u << std::countr_zero(address);
}

Matrix transposed(const TensorView& tensor) {
  const std::int64_t rows = tensor.shape[1], columns = tensor.shape[0];
  // The stride of a single row may be anything and is not used.
  const std::int64_t leading_dimension = columns <= 1 ? rows : tensor.strides[0];
  return {tensor.dtype, rows, columns, leading_dimension, alignment_bytes(tensor.data)};
}

template <class Create, class... Args>
Owned make(Create create, Status (*destroy)(void*), const char* call, Args... args) {
  void* created = nullptr;
  check_cublaslt(create(&created, args...), call);
  return {created, destroy};
}

Owned make_layout(const CublasLtTable& table, const Matrix& matrix) {
  return make(table.matrix_layout_create, table.matrix_layout_destroy, "cublasLtMatrixLayoutCreate",
              data_type(matrix.dtype), static_cast<std::uint64_t>(matrix.rows),
              static_cast<std::uint64_t>(matrix.columns), matrix.leading_dimension);
}

Owned make_preference(const CublasLtTable& table, const PlanKey& key) {
  Owned preference = make(table.matmul_preference_create, table.matmul_preference_destroy,
                          "cublasLtMatmulPreferenceCreate");
  const auto set = [&](cublaslt::PreferenceAttribute attribute, auto value) {
    check_cublaslt(
        table.matmul_preference_set_attribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
  };
  set(cublaslt::kMaxWorkspaceBytes, static_cast<std::uint64_t>(key.workspace_bytes));
  set(cublaslt::kReductionSchemeMask, cublaslt::kReduceInComputeType);
  set(cublaslt::kMinAlignmentA, key.weight.alignment_bytes);
  set(cublaslt::kMinAlignmentB, key.a.alignment_bytes);
  set(cublaslt::kMinAlignmentC, key.out.alignment_bytes);
  set(cublaslt::kMinAlignmentD, key.out.alignment_bytes);
  return preference;
}

// Row-major out = a weight^T is column-major out^T [n, m] = op_T(weight^T [k, n]) a^T [k, m].
std::shared_ptr<const Plan> make_plan(const CublasLtTable& table, cublaslt::Handle handle,
                                      const PlanKey& key) {
  Plan plan{make(table.matmul_desc_create, table.matmul_desc_destroy, "cublasLtMatmulDescCreate",
                 cublaslt::kCompute32F, static_cast<int>(cublaslt::kR32F)),
            make_layout(table, key.weight),
            make_layout(table, key.a),
            make_layout(table, key.out),
            {}};
  const auto set = [&](cublaslt::MatmulDescAttribute attribute, cublaslt::Operation value) {
    check_cublaslt(
        table.matmul_desc_set_attribute(plan.desc.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
  };
  set(cublaslt::kTransA, cublaslt::kOpT);
  set(cublaslt::kTransB, cublaslt::kOpN);

  const Owned preference = make_preference(table, key);
  int found = 0;
  const Status status = table.matmul_algo_get_heuristic(
      handle, plan.desc.get(), plan.weight.get(), plan.a.get(), plan.out.get(), plan.out.get(),
      preference.get(), 1, &plan.choice, &found);
  if (status != 0 || found == 0 || plan.choice.state != 0) {
    throw Error(ErrorCode::not_implemented,
                fmt::format("gemm: shape: got m {}, n {}, k {} with strides {}, {}, {}, expected "
                            "one that cuBLASLt has an algorithm for (status {})",
                            key.a.columns, key.weight.columns, key.a.rows, key.a.leading_dimension,
                            key.weight.leading_dimension, key.out.leading_dimension, status));
  }
  return std::make_shared<const Plan>(std::move(plan));
}

// Handles, plans and workspaces of the process. Never destroyed: at exit the driver may be gone.
struct GemmState {
  std::mutex mutex;
  std::map<int, cublaslt::Handle> handles;  // by device
  std::map<PlanKey, std::shared_ptr<const Plan>> plans;
  std::map<std::pair<int, void*>, Buffer> workspaces;  // by device and stream
};

GemmState& gemm_state() {
  static auto* state = new GemmState;
  return *state;
}

bool is_capturing(Stream stream) {
  if (stream.handle == nullptr) return false;  // the legacy default stream cannot be
  int status = 0;
  check(driver().stream_is_capturing(stream.handle, &status), "cuStreamIsCapturing");
  return status != 0;
}

// The stream's workspace; null where none may be taken: memory cannot be allocated while a graph is
// captured, and the per-thread default stream is many streams under one handle.
void* workspace(GemmState& state, int device_index, Stream stream) {
  constexpr std::uintptr_t kPerThreadStream = 2;
  const std::pair key{device_index, stream.handle};
  if (const auto found = state.workspaces.find(key); found != state.workspaces.end()) {
    return found->second.data();
  }
  if (reinterpret_cast<std::uintptr_t>(stream.handle) == kPerThreadStream) return nullptr;
  if (is_capturing(stream)) return nullptr;
  return state.workspaces.emplace(key, Buffer(kWorkspaceBytes, cuda_device(device_index)))
      .first->second.data();
}

void fill_zero(const TensorView& out, Stream stream) {
  const auto row_bytes = static_cast<std::size_t>(out.shape[1]) * size_bytes(out.dtype);
  for (std::int64_t i = 0; i < out.shape[0]; ++i) {
    const std::int64_t offset = i * out.strides[0] * static_cast<int>(size_bytes(out.dtype));
    fill_bytes(static_cast<char*>(out.data) + offset, 0, row_bytes, out.device.index, stream);
  }
}

}  // namespace

void gemm(const TensorView& a, const TensorView& weight, const TensorView& out, Stream stream) {
  if (a.shape[1] == 0) return fill_zero(out, stream);
  const int device_index = out.device.index;
  const CublasLtTable& table = cublaslt_table();
  const DeviceGuard guard(device_index);

  PlanKey key{device_index, transposed(weight), transposed(a), transposed(out), 0};
  GemmState& state = gemm_state();
  cublaslt::Handle handle = nullptr;
  void* memory = nullptr;
  std::shared_ptr<const Plan> plan;
  {
    const std::lock_guard lock(state.mutex);
    cublaslt::Handle& known = state.handles[device_index];
    if (known == nullptr) check_cublaslt(table.create(&known), "cublasLtCreate");
    handle = known;
    memory = workspace(state, device_index, stream);
    key.workspace_bytes = memory == nullptr ? 0 : kWorkspaceBytes;
    if (state.plans.size() >= kMaxPlans && !state.plans.contains(key)) state.plans.clear();
    std::shared_ptr<const Plan>& known_plan = state.plans[key];
    if (!known_plan) known_plan = make_plan(table, handle, key);
    plan = known_plan;
  }
  const float one = 1.f, zero = 0.f;
  check_cublaslt(
      table.matmul(handle, plan->desc.get(), &one, weight.data, plan->weight.get(), a.data,
                   plan->a.get(), &zero, out.data, plan->out.get(), out.data, plan->out.get(),
                   &plan->choice.algo, memory, plan->choice.workspace_bytes, stream.handle),
      "cublasLtMatmul");
}

void forget_gemm_plans() {
  GemmState& state = gemm_state();
  const std::lock_guard lock(state.mutex);
  state.handles.clear();
  state.plans.clear();
  state.workspaces.clear();
}

}  // namespace quire::cuda
