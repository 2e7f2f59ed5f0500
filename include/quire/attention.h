// Batch attention over paged or ragged KV: decode, append, prefill and mixed batches are one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "quire/attention_variant.h"
#include "quire/paged_kv.h"
#include "quire/tensor.h"

namespace quire {

enum class LseBase : std::uint8_t { two, e };

// What is fixed for a plan.
struct AttentionShape {
  int num_qo_heads = 0;
  int num_kv_heads = 0;  // divides num_qo_heads
  int head_dim_qk = 0;   // multiple of 16, 16 to 256
  int head_dim_vo = 0;   // multiple of 16, 16 to 256
  int page_size = 0;     // tokens a page; 0: KV is ragged, not paged
  KvLayout layout = KvLayout::nhd;
  DType q_dtype = DType::bf16;   // f16, bf16, f8e4m3 with a kv_dtype f8e4m3; on the CPU also f32
  DType kv_dtype = DType::bf16;  // as q_dtype, or f8e4m3, f8e5m2; on the CPU any of these
  DType o_dtype = DType::bf16;   // f16, bf16; on the CPU also f32

  bool operator==(const AttentionShape&) const = default;
};

// Hints that improve the balance, and how KV may be split. A plan is correct for ANY run options.
struct AttentionPlanOptions {
  bool causal = false;
  int window_left = -1;
  int fixed_split_size = 0;  // tokens: split KV at exact multiples of this; 0: the planner decides
  bool disable_split_kv = false;  // wins over fixed_split_size
  // Also verify metadata that lives on the device (page ids) with a kernel, waiting for its answer.
  // Also switched on by the environment variable QUIRE_CHECKED=1.
  bool checked = false;
  // A request's result does not depend, to the last bit, on what else is in the batch: kernel and
  // tile are the same for every batch, and KV is split at multiples of fixed_split_size (0: 1024)
  // or, with disable_split_kv, nowhere.
  bool batch_invariant = false;
  // Where prompts would read small pages or an fp8 cache many times over, run() may first copy
  // their K and V to one piece, as the type of q, which attention then reads faster: in this many
  // bytes at most, of the workspace or of memory that plan() takes for it. 0: never, as after
  // reserve(), for batch_invariant and in cascades. Results are the same up to rounding.
  std::int64_t max_copy_bytes = std::int64_t{256} << 20;
  // Makes a kernel of its own, compiled here. Its values are given to each run.
  std::optional<AttentionVariant> variant = {};
};

// Room for all plans to come: see BatchAttention::reserve.
struct AttentionReservation {
  int max_batch_size = 0;
  std::int64_t max_total_q = 0;  // rows of q, all requests
  // Rows of one request; 0: max_total_q. It decides which kernels can serve: give it for decoding.
  std::int64_t max_qo_len = 0;
  std::int64_t max_kv_entries = 0;  // page ids of all requests; ragged: tokens
};

// Lengths and pages on the device of the engine: i32, contiguous. The pages of request r are the
// first entries of block_tables[r], or those from kv_indptr[r] to kv_indptr[r + 1] of kv_indices.
struct DevicePageTable {
  TensorView seq_lens;                     // [batch], KV tokens; 0: nothing, as of padding
  std::optional<TensorView> block_tables;  // [batch, max_pages]
  std::optional<TensorView> kv_indptr;     // [batch + 1]
  std::optional<TensorView> kv_indices;    // [num_indices]
};

// One level of a cascade: pages that groups of neighbouring requests have in common.
struct CascadeLevel {
  TensorView qo_indptr;  // i32 [groups + 1] on the host: the rows of q of each group
  PageTable table;       // of the groups, as plan() takes it
};

// Arguments of one run; engines set them per layer.
struct AttentionOptions {
  bool causal = false;          // row i of a request sees kv tokens 0 .. kv_len - qo_len + i
  int window_left = -1;         // >= 0: and not more than this many tokens to the left of that
  float sm_scale = 0.f;         // 0: 1 / sqrt(head_dim_qk). Negative or NaN is an error
  float logits_soft_cap = 0.f;  // > 0: logits become cap * tanh(logits / cap)
  // Dequantization scales of whole tensors: what is computed is the attention of q_scale * q,
  // k_scale * k and v_scale * v, whatever their dtypes.
  float q_scale = 1.f;
  float k_scale = 1.f;
  float v_scale = 1.f;
  // And per head, times those above, for tensors that are fp8. Kernels read them, so that a
  // captured run, replayed, takes new values.
  std::optional<TensorView> q_scales;  // f32 [num_qo_heads]; only with an fp8 q_dtype
  std::optional<TensorView> k_scales;  // f32 [num_kv_heads]; only with an fp8 kv_dtype
  std::optional<TensorView> v_scales;  // f32 [num_kv_heads]; only with an fp8 kv_dtype
  LseBase lse_base = LseBase::e;
  // u8, bits little-endian; request r's bits start at byte mask_indptr[r]; bit q * kv_len + k says
  // that row q may see token k. Combined (and) with causal and window_left.
  std::optional<TensorView> custom_mask;  // u8 [bytes]
  std::optional<TensorView> mask_indptr;  // i32 [batch + 1]
  // A logit per head that takes part in the softmax's sum and in lse, but has no value row. The lse
  // of a row that sees no token is then the sink.
  std::optional<TensorView> sinks;  // f32 [num_qo_heads]
  // ALiBi: adds slope * (kv token - (kv_len - qo_len + i)) to the logits of row i, after the cap.
  std::optional<TensorView> alibi_slopes;  // f32 [num_qo_heads]
  // Values of the planned variant's arguments, in the order of their declaration. Tensors are
  // contiguous, of any shape.
  std::vector<TensorView> variant_tensors;
  std::vector<double> variant_scalars;
};

// Plans once per step, runs once per layer.
//
// plan() reads host arrays, may allocate, upload and compile; for steps like the last ones it only
// uploads, and never waits for the device. run() does none of these, never synchronizes and
// launches on the tensors' device, so that it can be captured in a CUDA graph. Rows that see no
// token give out 0 and lse -inf.
class BatchAttention {
 public:
  explicit BatchAttention(Device device);
  ~BatchAttention();
  BatchAttention(BatchAttention&&) noexcept;
  BatchAttention& operator=(BatchAttention&&) noexcept;

  // Uses `workspace` (u8 [bytes] on the device, 16-byte aligned, contiguous) for split-KV partial
  // results, and for copies of K and V where it has room for them, instead of memory of its own,
  // from the next plan() on. It must stay valid; concurrent runs must not share it.
  void set_workspace(std::optional<TensorView> workspace);

  // Makes room, here and now, for every plan within `reservation`. Those plans, given the same
  // shape, fixed_split_size, disable_split_kv, batch_invariant and variant, keep the kernel, every
  // address, every launch parameter and the memory: a run that was captured in a CUDA graph, with q
  // of as many rows as any of them has, can be replayed after each. What does not fit is an error
  // of plan(), and so is a second reserve() once a run has been captured, for it would move what
  // the graph holds. Throws as plan() does.
  void reserve(const AttentionShape& shape, const AttentionReservation& reservation,
               const AttentionPlanOptions& options = {});

  // Paged KV. qo_indptr: i32 [batch + 1] on the host; table.indptr and table.last_page_len on the
  // host, table.indices on the host or on the device.
  // Throws invalid_argument or wrong_type for every inconsistency of these arrays that the host can
  // see, not_implemented for a shape this device has no kernel for, out_of_memory when the given
  // workspace is too small (the text gives the bytes needed). A failed plan leaves the last one.
  // The arrays are copied, those on the device in the order of `stream`: they may change
  // afterwards.
  void plan(const AttentionShape& shape, const TensorView& qo_indptr, const PageTable& table,
            const AttentionPlanOptions& options = {}, Stream stream = {});
  // Ragged KV (shape.page_size == 0): kv_indptr i32 [batch + 1] on the host, in tokens.
  void plan(const AttentionShape& shape, const TensorView& qo_indptr, const TensorView& kv_indptr,
            const AttentionPlanOptions& options = {}, Stream stream = {});

  // Paged KV of which groups of requests share leading pages (Ye et al. 2024, "Cascade Inference"):
  // the tokens of a row are those of its group in each level, first to last. The last level has the
  // requests with pages of their own; each other level's groups are runs of neighbouring requests,
  // or groups, of the next level, and all levels have the same rows of q. A group without shared
  // tokens has no pages. All levels are one work list: one launch of the attention kernel, and one
  // that merges. causal of a run is among the tokens of the last level, where each request must
  // have those of its own rows; rows see all tokens of the other levels.
  // Throws as plan() does, and not_implemented after reserve() and for batch_invariant, window_left
  // and variant, as run() does for window_left, alibi_slopes and custom_mask. One level is plan().
  void plan_cascade(const AttentionShape& shape, std::span<const CascadeLevel> levels,
                    const AttentionPlanOptions& options = {}, Stream stream = {});

  // Paged KV whose lengths and pages are on the device: a kernel plans, the host does not wait and
  // does not learn the lengths. Captured together with runs, it plans anew at each replay. Each
  // request has qo_len rows of q. Needs a call of reserve() before; the table stays the caller's:
  // it must stay where it is while runs of this plan are going on or can be replayed.
  // A request whose length is negative or more than its pages hold gets NaN, in out and lse, and is
  // what check_plan() reports. not_implemented where qo_len heads of a group are more than a tile.
  // On the CPU, where the host can read the table, this is plan() with its errors.
  void plan_on_device(const AttentionShape& shape, int qo_len, const DevicePageTable& table,
                      const AttentionPlanOptions& options = {}, Stream stream = {});

  // Waits for `stream` and throws invalid_argument, naming the first request, when the last plan
  // that the device made has one that does not fit. With options.checked plan_on_device() does it.
  void check_plan(Stream stream = {}) const;

  // q [total_q, num_qo_heads, head_dim_qk], out [total_q, num_qo_heads, head_dim_vo], any strides
  // with a contiguous last dimension; lse f32 [total_q, num_qo_heads], contiguous. After reserve()
  // q, out and lse may have more rows than the plan, up to max_total_q: those are not written.
  void run(const TensorView& q, const PagedKv& kv, const TensorView& out,
           const std::optional<TensorView>& lse = {}, const AttentionOptions& options = {},
           Stream stream = {}) const;
  // k [total_kv, num_kv_heads, head_dim_qk] or, for hnd, [num_kv_heads, total_kv, head_dim_qk];
  // v alike with head_dim_vo.
  void run(const TensorView& q, const TensorView& k, const TensorView& v, const TensorView& out,
           const std::optional<TensorView>& lse = {}, const AttentionOptions& options = {},
           Stream stream = {}) const;

  // Bytes of workspace that the current plan uses: for partial results of split KV, and for copies
  // of K and V; 0 without both. After reserve(): what it has reserved for any plan.
  std::size_t workspace_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Bytes of workspace that plan() would use on `device`, without planning on it. Same errors. With
// max_copy_bytes 0 it is what plan() must have.
std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const PageTable& table,
                                      const AttentionPlanOptions& options = {});
std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const TensorView& kv_indptr,
                                      const AttentionPlanOptions& options = {});
// Of plan_cascade().
std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      std::span<const CascadeLevel> levels,
                                      const AttentionPlanOptions& options = {});
// What reserve() would use.
std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const AttentionReservation& reservation,
                                      const AttentionPlanOptions& options = {});

}  // namespace quire
