#include "cuda/attention_specs.h"

#include "attention/attention_copy_kv_types.h"
#include "attention/attention_merge_layout.h"
#include "attention/attention_plan_types.h"
#include "attention/page_check_types.h"
#include "cuda/attention_config.h"
#include "cuda/attention_variant.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionKernel;

// An fp8 cache is held in registers on its way to shared memory. Without a bound NVRTC takes 206 at
// head_dim 128, where 167 do: three blocks a multiprocessor, as many as shared memory holds. Others
// of four warps take 130, where 128 do and let a fourth block in.
int min_blocks_per_sm(const AttentionConfig& config) {
  const bool sm80_decode = config.kernel == AttentionKernel::sm80 && config.tile_q == 16;
  if (!sm80_decode) return 1;
  if (kernels::is_fp8(config.kv_dtype)) return 3;
  return config.warps_kv == 4 ? 4 : 1;
}

const char* kernel_name(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::sm90:
      return "attention_sm90";
    case AttentionKernel::decode:
      return "attention_decode";
    default:
      return "attention_sm80";
  }
}

const char* params_type(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::sm90:
      return "AttentionSm90Params";
    case AttentionKernel::decode:
      return "AttentionDecodeParams";
    default:
      return "AttentionParams";
  }
}

}  // namespace

jit::KernelSpec attention_spec(const AttentionConfig& config, const AttentionVariant* variant) {
  const std::string name = kernel_name(config.kernel);
  jit::KernelSpec spec{
      .name = name,
      .header = "attention/" + name + ".cuh",
      .function = name,
      .config_type = "AttentionConfig",
      .config = jit::config_literal(config),
      .params_type = params_type(config.kernel),
      .threads_per_block = attention_threads(config),
      .min_blocks_per_sm = min_blocks_per_sm(config),
      .orders_itself = config.kernel == AttentionKernel::decode,
      .dynamic_smem_bytes = static_cast<std::size_t>(attention_smem_bytes(config))};
  if (variant) add_variant(spec, *variant);
  return spec;
}

jit::KernelSpec merge_spec(const AttentionConfig& config) {
  const AttentionConfig c{.q_dtype = config.q_dtype,
                          .kv_dtype = config.kv_dtype,
                          .o_dtype = config.o_dtype,
                          .head_dim_vo = config.head_dim_vo,
                          .aligned = config.aligned,
                          .widened = config.widened,
                          .softmax = config.softmax};
  return {.name = "attention_merge",
          .header = "attention/attention_merge.cuh",
          .function = "attention_merge",
          .config_type = "AttentionConfig",
          .config = jit::config_literal(c),
          .params_type = "AttentionParams",
          .threads_per_block = kernels::kMergeThreads,
          .min_blocks_per_sm = 5,
          .orders_itself = true};
}

jit::KernelSpec copy_kv_spec(const AttentionConfig& config) {
  const AttentionConfig c{.q_dtype = config.q_dtype,
                          .kv_dtype = config.kv_dtype,
                          .head_dim_qk = config.head_dim_qk,
                          .head_dim_vo = config.head_dim_vo,
                          .aligned = config.aligned};
  return {.name = "attention_copy_kv",
          .header = "attention/attention_copy_kv.cuh",
          .function = "attention_copy_kv",
          .config_type = "AttentionConfig",
          .config = jit::config_literal(c),
          .params_type = "CopyKvParams",
          .threads_per_block = 32 * kernels::kCopyKvWarps};
}

jit::KernelSpec page_check_spec() {
  const kernels::PageCheckConfig config;
  return {.name = "page_check",
          .header = "attention/page_check.cuh",
          .function = "page_check",
          .config_type = "PageCheckConfig",
          .config = jit::config_literal(config),
          .params_type = "PageCheckParams",
          .threads_per_block = config.threads};
}

jit::KernelSpec plan_spec() {
  const kernels::AttentionPlanConfig config;
  return {.name = "attention_plan",
          .header = "attention/attention_plan.cuh",
          .function = "attention_plan",
          .config_type = "AttentionPlanConfig",
          .config = jit::config_literal(config),
          .params_type = "AttentionPlanParams",
          .threads_per_block = config.threads,
          .dynamic_smem_bytes = static_cast<std::size_t>(kernels::plan_smem_bytes(config))};
}

}  // namespace quire::cuda
