#include "cuda/attention.h"

#include <algorithm>
#include <climits>
#include <optional>

#include "attention/attention_merge_layout.h"
#include "attention/page_check_types.h"
#include "core/env.h"
#include "cuda/attention_decode.h"
#include "cuda/attention_kv_boxes.h"
#include "cuda/attention_sm90.h"
#include "cuda/attention_specs.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionKernel;
using kernels::AttentionParams;
using kernels::DType;

// Of the L2 cache, for K and V that items share: the rest is for q, out and the next in turn.
constexpr double kCacheShare = 0.3;
constexpr int kSmallestSmemBytes = 99 * 1024;  // a block's limit on sm_86, sm_89 and sm_120

// Whether the copy engine can describe what the kernel wants of it.
bool boxes_fit(AttentionKernel kernel, const AttentionParams& params) {
  return kernel == AttentionKernel::decode ? boxes_can_describe_kv(params)
                                           : boxes_can_describe(params);
}

// Of any kernel, or of one.
std::optional<AttentionConfig> fitting_config(const DeviceLimits& limits,
                                              const AttentionDemand& demand,
                                              std::optional<AttentionKernel> kernel = {}) {
  for (const AttentionChoice& choice : attention_choices(demand)) {
    if (kernel && choice.config.kernel != *kernel) continue;
    if (attention_smem_bytes(choice.config) <= limits.max_smem_per_block) return choice.config;
  }
  return {};
}

// A kernel, compiled and loaded, and the one that merges for it.
AttentionTarget target_of(int device_index, const AttentionConfig& config,
                          const AttentionDemand& demand, const AttentionVariant* variant) {
  const DeviceLimits& limits = device_limits(device_index);
  const Kernel& kernel = get_kernel(attention_spec(config, variant), device_index);
  const bool merges_itself = config.kernel == AttentionKernel::decode;
  if (!merges_itself) get_kernel(merge_spec(config), device_index);
  if (demand.copies_kv) get_kernel(copy_kv_spec(demand.shape), device_index);
  const int token_bytes =
      (config.head_dim_qk + config.head_dim_vo) * kernels::size_bytes(config.kv_dtype);
  const int num_workers = limits.num_sms * max_blocks_per_sm(kernel);
  return {.config = config,
          .tile = {.num_workers = num_workers,
                   .tile_q = attention_tile_rows(config, demand.group_size),
                   .tile_kv = config.tile_kv,
                   .cached_tokens =
                       static_cast<std::int64_t>(limits.l2_bytes * kCacheShare) / token_bytes,
                   .merges_itself = merges_itself,
                   .memory_workers = static_cast<int>(
                       decode_memory_share(config, limits.memory_speed()) * num_workers),
                   .cut_cost = decode_cut_cost(config)},
          .few = {},
          .copy_cost = copy_cost(config)};
}

// Where the decode kernel can start beside attention_sm90, one for single tokens and one for the
// rest.
std::optional<AttentionTarget> target_of_two(int device_index, const AttentionDemand& demand) {
  const DeviceLimits& limits = device_limits(device_index);
  if (demand.mean_long_rows == 0 || !limits.has_early_starts) return {};
  AttentionDemand of_many = demand, of_few = demand;
  of_many.mean_packed_rows = demand.mean_long_rows;
  of_many.beside_decode = true;
  of_few.mean_packed_rows = of_few.max_packed_rows = demand.group_size;
  of_few.copies_kv = false;
  of_few.num_tiles = 0;  // the decode kernel's tiles, however many
  const auto many = fitting_config(limits, of_many);
  // Alone, few rows may have another kernel.
  const auto few = fitting_config(limits, of_few, AttentionKernel::decode);
  if (!many || many->kernel != AttentionKernel::sm90 || !few) return {};
  // Two kernels are slower where the decode kernel has much to multiply (1402 us, not 944, with
  // 64/4 heads of 128 columns).
  if (few->tile_q > 8 && few->head_dim_vo > 64) return {};
  AttentionTarget target = target_of(device_index, *many, demand, nullptr);
  const Kernel& kernel = get_kernel(attention_spec(*few), device_index);
  // Both lists of workers are one block a multiprocessor.
  if (target.tile.num_workers != limits.num_sms || max_blocks_per_sm(kernel) != 1) return {};
  target.few = *few;
  target.tile.few = few_rows_tile(*few, *many, limits.memory_speed());
  return target;
}

}  // namespace

AttentionTarget attention_target(int device_index, AttentionDemand demand,
                                 const AttentionVariant* variant) {
  const DeviceLimits& limits = device_limits(device_index);
  demand.compute_major = limits.compute_major;
  demand.num_sms = limits.num_sms;
  if (const std::string reason = attention_unsupported(demand); !reason.empty()) {
    throw Error(ErrorCode::not_implemented, "attention: " + reason);
  }
  if (limits.compute_major < 8) {
    throw Error(ErrorCode::not_implemented, "attention: device: got " + limits.name +
                                                ", expected compute capability 8.0 or later");
  }
  demand.shape.aligned = true;
  if (const auto two = target_of_two(device_index, demand)) return *two;
  const std::optional<AttentionConfig> config = fitting_config(limits, demand);
  if (!config) {
    throw Error(ErrorCode::not_implemented,
                "attention: no kernel fits head_dim, rows and the shared memory of " + limits.name +
                    (env::get("QUIRE_FORCE_KERNEL") ? ", or QUIRE_FORCE_KERNEL leaves none" : ""));
  }
  return target_of(device_index, *config, demand, variant);
}

void prepare_attention_plan(int device_index) { get_kernel(plan_spec(), device_index); }

void attention_plan(int device_index, const kernels::AttentionPlanParams& params, Stream stream) {
  launch(get_kernel(plan_spec(), device_index), 1, 1, stream, params);
}

namespace {

// `planned` where it fits the tensors, else the kernel that takes any.
AttentionConfig fitting(const AttentionConfig& planned, const AttentionKernels& kernels,
                        const AttentionParams& params) {
  const bool as_planned = kernels.aligned && (!planned.boxes || boxes_fit(planned.kernel, params));
  return as_planned ? planned : row_attention(planned, kernels.aligned);
}

// The items of params.num_workers workers. beside: the launch before this one does other items of
// the plan.
void launch_items(int device_index, const AttentionConfig& config, const AttentionVariant* variant,
                  const AttentionParams& params, bool beside, Stream stream) {
  const Kernel& kernel = get_kernel(attention_spec(config, variant), device_index);
  const auto num_workers = static_cast<unsigned>(params.num_workers);
  const DeviceGuard guard(device_index);  // describing tensors takes a context
  switch (config.kernel) {
    case AttentionKernel::sm90:
      return launch(kernel, num_workers, 1, stream, sm90_params(config, params));
    case AttentionKernel::decode:
      return launch(kernel, num_workers, 1, stream,
                    decode_params(config, params, device_limits(device_index), beside));
    default:
      return launch(kernel, num_workers, 1, stream, params);
  }
}

}  // namespace

void attention(int device_index, const AttentionKernels& kernels, const AttentionParams& params,
               Stream stream) {
  AttentionParams many = kernels.copy ? over_copy(*kernels.copy, kernels.config, params) : params;
  const AttentionConfig config = fitting(kernels.config, kernels, many);
  if (params.num_items > 0) {
    AttentionParams few = params;
    many.num_workers -= kernels.num_few_workers;
    few.num_workers = kernels.num_few_workers;
    few.worker_indptr += many.num_workers;
    const bool few_first = kernels.two == plan::TwoKernels::few_first;
    const auto launch_few = [&] {
      if (few.num_workers == 0) return;
      launch_items(device_index, fitting(kernels.few, kernels, params), kernels.variant, few,
                   /*beside=*/!few_first, stream);
    };
    if (few_first) launch_few();
    if (kernels.copy) copy_kv(device_index, *kernels.copy, config, params, stream);
    launch_items(device_index, config, kernels.variant, many, /*beside=*/false, stream);
    if (!few_first) launch_few();
  }
  if (params.num_merges > 0) {
    const Kernel& kernel = get_kernel(merge_spec(config), device_index);
    // Rows as the mean request has. No more blocks than a multiprocessor takes at once: each begins
    // with loads that wait for each other.
    constexpr std::int64_t kBlocksPerSm = 8;
    const int block_rows = kernels::merge_block_rows(config.head_dim_vo);
    const std::int64_t rows =
        std::int64_t{params.total_q} * params.group_size / std::max(params.batch_size, 1);
    const std::int64_t row_blocks =
        (std::clamp<std::int64_t>(rows, 1, params.tile_rows) + block_rows - 1) / block_rows;
    const auto blocks =
        std::clamp<std::int64_t>(kBlocksPerSm * device_limits(device_index).num_sms / row_blocks, 1,
                                 params.num_merges / params.num_levels);
    launch(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(row_blocks), stream,
           params);
  }
}

std::int64_t first_bad_page(int device_index, const AttentionParams& params, Stream stream) {
  if (params.num_indices == 0) return -1;
  const Device device = cuda_device(device_index);
  const Buffer answer(sizeof(int), device);
  const int none = INT_MAX;
  copy(answer.data(), device, &none, kCpu, sizeof(none), stream);
  const kernels::PageCheckParams check{.indices = params.kv_indices,
                                       .kv_indptr = params.kv_indptr,
                                       .kv_lens = params.kv_lens,
                                       .first_bad = static_cast<int*>(answer.data()),
                                       .batch_size = params.batch_size,
                                       .page_size = params.page_size,
                                       .num_indices = params.num_indices,
                                       .num_pages = params.num_pages};
  const Kernel& kernel = get_kernel(page_check_spec(), device_index);
  launch(kernel, static_cast<unsigned>(std::min(params.batch_size, 1024)), 1, stream, check);
  int first = none;
  copy(&first, kCpu, answer.data(), device, sizeof(first), stream);
  return first == none ? -1 : first;
}

namespace {

// Kernels of attention_sm80 that some amount of work gets on some device.
void list_sm80(std::vector<ListedKernel>& list, const AttentionConfig& shape, bool preset) {
  std::vector<AttentionConfig> listed;
  for (const double mean_packed_rows : {1., 64., 1024.}) {
    const AttentionDemand demand{.shape = shape, .mean_packed_rows = mean_packed_rows};
    for (const AttentionChoice& choice : attention_choices(demand)) {
      if (choice.config.kernel != AttentionKernel::sm80) continue;
      if (std::find(listed.begin(), listed.end(), choice.config) != listed.end()) continue;
      listed.push_back(choice.config);
      list.push_back({.spec = attention_spec(choice.config),
                      .preset = preset,
                      .large_smem = attention_smem_bytes(choice.config) > kSmallestSmemBytes});
    }
  }
}

// Kernels of attention_sm90: few rows and many, also beside decode, pages that fit boxes and pages
// that do not, and what a plan for boxes turns to when the rows of a run are not aligned.
void list_sm90(std::vector<ListedKernel>& list, const AttentionConfig& shape, bool preset) {
  std::vector<AttentionConfig> listed;
  const auto add = [&](const AttentionConfig& config) {
    if (std::find(listed.begin(), listed.end(), config) != listed.end()) return;
    listed.push_back(config);
    list.push_back({.spec = attention_spec(config),
                    .min_arch = 90,
                    .max_arch = 90,
                    .preset = preset && config.boxes});
  };
  for (const double mean_packed_rows : {64., 1024., 16384.}) {
    for (const int page_size : {0, 1}) {
      if (page_size == 0 && !shape.aligned) continue;
      const AttentionConfig config = attention_choices({.shape = shape,
                                                        .mean_packed_rows = mean_packed_rows,
                                                        .max_packed_rows = mean_packed_rows,
                                                        .beside_decode = mean_packed_rows > 1024,
                                                        .page_size = page_size,
                                                        .compute_major = 9})
                                         .front()
                                         .config;
      if (config.kernel != AttentionKernel::sm90) continue;
      add(config);
      // Of many f8e4m3 rows over 128 columns that spills four registers; f16 has what bf16 has.
      const bool spills =
          kernels::is_fp8(config.q_dtype) && config.head_dim_vo > 128 && config.tile_q > 64;
      if (config.boxes && !spills && config.q_dtype != DType::f16) {
        add(row_attention(config, /*aligned=*/false));
      }
    }
  }
}

// Kernels that copy K and V, and those that prompts then get beside list_sm90().
void list_copies(std::vector<ListedKernel>& list, const AttentionConfig& shape, bool preset) {
  list.push_back({.spec = copy_kv_spec(shape), .min_arch = 90, .max_arch = 90, .preset = preset});
  if (!kernels::is_fp8(shape.kv_dtype) || kernels::is_fp8(shape.q_dtype)) return;
  const AttentionDemand demand{.shape = shape,
                               .mean_packed_rows = 1024,
                               .max_packed_rows = 1024,
                               .copies_kv = true,
                               .compute_major = 9};
  const AttentionConfig config = attention_choices(demand).front().config;
  list.push_back({.spec = attention_spec(config), .min_arch = 90, .max_arch = 90});
  list.push_back({.spec = merge_spec(config), .min_arch = 90, .max_arch = 90});
}

// The first kernel of attention_decode that a device with this much shared memory takes.
const AttentionConfig* decode_choice(const std::vector<AttentionChoice>& choices, int smem_bytes) {
  for (const AttentionChoice& choice : choices) {
    if (attention_smem_bytes(choice.config) > smem_bytes) continue;
    return choice.config.kernel == AttentionKernel::decode ? &choice.config : nullptr;
  }
  return nullptr;
}

// Kernels of attention_decode for requests of up to max_rows packed rows, with boxes and without,
// on large GPUs and small ones.
void list_decode(std::vector<ListedKernel>& list, const AttentionConfig& shape, int max_rows,
                 bool preset) {
  constexpr int kLargest = 227 * 1024, kSm80 = 163 * 1024;
  struct Target {
    int compute_major, page_size, smem_bytes;
  };
  std::vector<AttentionConfig> listed;
  for (int rows = 8; rows <= max_rows; rows *= 2) {
    for (const Target& target : {Target{10, 16, kLargest},
                                 {10, 1, kLargest},
                                 {8, 16, kSm80},
                                 {8, 16, kSmallestSmemBytes}}) {
      const auto choices = attention_choices({.shape = shape,
                                              .mean_packed_rows = static_cast<double>(rows),
                                              .max_packed_rows = static_cast<double>(rows),
                                              .page_size = target.page_size,
                                              .compute_major = target.compute_major});
      const AttentionConfig* config = decode_choice(choices, target.smem_bytes);
      if (!config || (config->boxes && !shape.aligned)) continue;
      if (std::find(listed.begin(), listed.end(), *config) != listed.end()) continue;
      listed.push_back(*config);
      list.push_back({.spec = attention_spec(*config),
                      .min_arch = config->boxes ? 90 : 80,
                      .preset = preset && rows == 8 && target.smem_bytes == kLargest,
                      .large_smem = attention_smem_bytes(*config) > kSmallestSmemBytes});
    }
  }
}

}  // namespace

std::vector<ListedKernel> attention_kernels() {
  struct HeadDims {
    int qk, vo;
    bool preset;
  };
  constexpr HeadDims kHeadDims[] = {{64, 64, true},   {80, 80, false},   {96, 96, false},
                                    {128, 128, true}, {192, 128, false}, {256, 256, false}};
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const HeadDims& dims : kHeadDims) {
      AttentionConfig shape{.q_dtype = dtype,
                            .kv_dtype = dtype,
                            .o_dtype = dtype,
                            .head_dim_qk = dims.qk,
                            .head_dim_vo = dims.vo};
      list_sm80(list, shape, dims.preset);
      list_sm90(list, shape, dims.preset);
      list_decode(list, shape, dtype == DType::bf16 && dims.preset ? 64 : 8, dims.preset);
      if (dims.qk == dims.vo) list.push_back({.spec = merge_spec(shape), .preset = dims.preset});
      list_copies(list, shape, dims.preset);
      if (dims.qk != 128 || dtype != DType::bf16) continue;
      shape.aligned = false;
      list_sm80(list, shape, false);
      list_sm90(list, shape, false);
      list_decode(list, shape, 8, false);
    }
    for (const int head_dim : {64, 128, 256}) {  // an fp8 cache
      const AttentionConfig shape{.q_dtype = dtype,
                                  .kv_dtype = DType::f8e4m3,
                                  .o_dtype = dtype,
                                  .head_dim_qk = head_dim,
                                  .head_dim_vo = head_dim};
      list_sm80(list, shape, false);
      list_decode(list, shape, head_dim == 128 ? 32 : 8, false);
      list_sm90(list, shape, false);
      list_copies(list, shape, false);
      list.push_back({.spec = merge_spec(shape)});
    }
  }
  for (const int head_dim : {64, 128, 256}) {  // fp8 queries
    const AttentionConfig shape{.q_dtype = DType::f8e4m3,
                                .kv_dtype = DType::f8e4m3,
                                .head_dim_qk = head_dim,
                                .head_dim_vo = head_dim};
    list_sm90(list, shape, false);
    list_copies(list, shape, false);
    list.push_back({.spec = merge_spec(shape)});
  }
  list.push_back({.spec = page_check_spec()});
  list.push_back({.spec = plan_spec(), .preset = true});
  return list;
}

}  // namespace quire::cuda
