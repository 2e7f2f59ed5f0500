#include "ops/rope_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/rows.h"

namespace quire {
namespace {

using check::Arg;
using kernels::kMaxRotaryDim;
using kernels::RopeConfig;
using kernels::RopeParams;

int checked_rotary_dim(std::string_view op, std::int64_t rotary_dim, std::int64_t head_dim) {
  if (rotary_dim < 0 || rotary_dim > head_dim || rotary_dim % 2 != 0) {
    check::fail(op, "rotary_dim", std::to_string(rotary_dim),
                fmt::format("an even number, 0 to head_dim ({})", head_dim));
  }
  if (rotary_dim > kMaxRotaryDim) {
    check::fail(op, "rotary_dim", std::to_string(rotary_dim),
                fmt::format("at most {}", kMaxRotaryDim), ErrorCode::not_implemented);
  }
  return static_cast<int>(rotary_dim);
}

void check_llama31(std::string_view op, const Llama31Rope& llama31) {
  check::finite_positive(op, "low_freq_factor", llama31.low_freq_factor);
  check::finite_positive(op, "high_freq_factor", llama31.high_freq_factor);
  check::finite_positive(op, "old_context_len", llama31.old_context_len);
  if (llama31.high_freq_factor <= llama31.low_freq_factor) {
    check::fail(op, "high_freq_factor", fmt::format("{}", llama31.high_freq_factor),
                fmt::format("more than low_freq_factor ({})", llama31.low_freq_factor));
  }
}

void check_yarn(std::string_view op, const YarnRope& yarn) {
  check::finite_positive(op, "original_context_len", yarn.original_context_len);
  check::finite_positive(op, "beta_slow", yarn.beta_slow);
  check::finite_positive(op, "beta_fast", yarn.beta_fast);
  if (yarn.beta_fast < yarn.beta_slow) {
    check::fail(op, "beta_fast", fmt::format("{}", yarn.beta_fast),
                fmt::format("beta_slow ({}) or more", yarn.beta_slow));
  }
  if (!std::isfinite(yarn.attention_factor) || yarn.attention_factor < 0) {
    check::fail(op, "attention_factor", fmt::format("{}", yarn.attention_factor),
                "a finite number, 0 or above");
  }
}

void check_scaling(std::string_view op, const RopeOptions& options) {
  check::finite_positive(op, "rope_scale", options.rope_scale);
  check::finite_positive(op, "rope_theta", options.rope_theta);
  const int given = options.llama31.has_value() + options.yarn.has_value() + options.ntk;
  if (given > 1) {
    check::fail(op, "options", fmt::format("{} of llama31, yarn and ntk", given), "at most one");
  }
  if (options.llama31) check_llama31(op, *options.llama31);
  if (options.yarn) check_yarn(op, *options.yarn);
}

// How much of YaRN's pair i is divided by the scale: 0 for fast pairs, 1 for slow ones.
double yarn_ramp(const RopeOptions& options, int rotary_dim, int i) {
  // The pair, not always a whole one, that turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    const double context = options.yarn->original_context_len;
    return rotary_dim * std::log(context / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(static_cast<double>(options.rope_theta)));
  };
  const double low = std::max(std::floor(pair_of(options.yarn->beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_of(options.yarn->beta_slow)), rotary_dim - 1.0);
  if (low == high) high += 0.001;
  return std::clamp((i - low) / (high - low), 0.0, 1.0);
}

// Radians a position of pair i.
double frequency(const RopeOptions& options, int rotary_dim, int i) {
  const double theta = options.rope_theta, scale = options.rope_scale;
  if (options.ntk) {
    const double grown =
        rotary_dim > 2 ? theta * std::pow(scale, rotary_dim / (rotary_dim - 2.0)) : theta;
    return std::pow(grown, -2.0 * i / rotary_dim);
  }
  const double unscaled = std::pow(theta, -2.0 * i / rotary_dim);
  const double scaled = unscaled / scale;
  if (options.yarn) {
    const double divided = yarn_ramp(options, rotary_dim, i);
    return divided * scaled + (1 - divided) * unscaled;
  }
  if (!options.llama31) return scaled;
  const double low = options.llama31->low_freq_factor, high = options.llama31->high_freq_factor;
  // How many wavelengths the old context holds decides: few are scaled, many are kept.
  const double turns = options.llama31->old_context_len * unscaled / (2 * std::numbers::pi);
  if (turns < low) return scaled;
  if (turns > high) return unscaled;
  const double kept = (turns - low) / (high - low);
  return (1 - kept) * scaled + kept * unscaled;
}

float table_factor(const RopeOptions& options) {
  if (!options.yarn) return 1;
  if (options.yarn->attention_factor > 0) return options.yarn->attention_factor;
  const double scale = options.rope_scale;
  return static_cast<float>(scale > 1 ? 0.1 * std::log(scale) + 1 : 1);
}

void set_cache(const Arg& q, const Arg& cache, std::int64_t head_dim, const RopeOptions& options,
               RopeParams& p, RopeConfig& config) {
  if (options.llama31 || options.yarn || options.ntk || options.rope_scale != 1) {
    check::fail(q.op, "options", "a scaling of frequencies beside cos_sin_cache", "one of them");
  }
  check::rank(cache, 2);
  check::dtype(cache, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(cache);
  check::device(cache, q);
  check::memory(cache);
  p.rotary_dim = checked_rotary_dim(q.op, cache.tensor.shape[1], head_dim);
  if (options.rotary_dim != 0 && options.rotary_dim != p.rotary_dim) {
    check::fail(q.op, "rotary_dim", std::to_string(options.rotary_dim),
                fmt::format("0 or {}, as in cos_sin_cache", p.rotary_dim));
  }
  p.cos_sin_cache = cache.tensor.data;
  p.cache_stride = rows::step(cache.tensor, 0);
  p.max_position = cache.tensor.shape[0];
  config.cached = true;
  config.cache_dtype = check::to_kernel(cache.tensor.dtype);
}

// An index vector, i32 or i64.
void check_index(const Arg& arg, const Arg& q) {
  check::rank(arg, 1);
  check::dtype(arg, {DType::i32, DType::i64});
  check::device(arg, q);
  check::memory(arg);
}

std::int64_t host_position(const RopeParams& p, const RopeConfig& config, std::int64_t token) {
  return config.pos_dtype == kernels::DType::i64
             ? kernels::rope_position<kernels::i64>(p, config.positions, token)
             : kernels::rope_position<kernels::i32>(p, config.positions, token);
}

void check_host_positions(const Arg& arg, const RopeParams& p, const RopeConfig& config) {
  if (!config.cached || !arg.tensor.device.is_cpu()) return;
  for (std::int64_t token = 0; token < p.nnz; ++token) {
    const std::int64_t position = host_position(p, config, token);
    if (position >= 0 && position < p.max_position) continue;
    check::fail(arg.op, arg.name, fmt::format("position {} of row {}", position, token),
                fmt::format("0 to {}, a row of cos_sin_cache", p.max_position - 1));
  }
}

void check_host_indptr(const Arg& arg, const RopeConfig& config, std::int64_t nnz) {
  const auto at = [&](std::int64_t i) {
    const std::int64_t offset = i * arg.tensor.strides[0];
    return config.pos_dtype == kernels::DType::i64
               ? static_cast<const std::int64_t*>(arg.tensor.data)[offset]
               : static_cast<const std::int32_t*>(arg.tensor.data)[offset];
  };
  const std::int64_t last = arg.tensor.shape[0] - 1;
  for (std::int64_t i = 0; i <= last; ++i) {
    const std::int64_t least = i == 0 ? 0 : at(i - 1);
    if (at(i) < least || (i == 0 && at(i) != 0) || (i == last && at(i) != nnz)) {
      check::fail(arg.op, arg.name, fmt::format("{} at {}", at(i), i),
                  fmt::format("numbers that rise from 0 to {}, the tokens of q", nnz));
    }
  }
}

}  // namespace

void set_angles(const Arg& q, std::int64_t head_dim, const RopeOptions& options, RopeParams& p,
                RopeConfig& config) {
  check_scaling(q.op, options);
  config.interleave = options.interleave;
  if (options.cos_sin_cache) {
    return set_cache(q, {q.op, "cos_sin_cache", *options.cos_sin_cache}, head_dim, options, p,
                     config);
  }
  p.rotary_dim =
      checked_rotary_dim(q.op, options.rotary_dim == 0 ? head_dim : options.rotary_dim, head_dim);
  p.table_factor = table_factor(options);
  for (int i = 0; i < p.rotary_dim / 2; ++i) {
    p.inv_freq[i] = static_cast<float>(frequency(options, p.rotary_dim, i));
  }
}

void set_positions(const Arg& q, const Arg& pos_ids, RopeParams& p, RopeConfig& config) {
  check_index(pos_ids, q);
  check::dim(pos_ids, 0, q.tensor.shape[0], "tokens of q");
  p.nnz = rows::count(q, q.tensor.shape[0], "tokens");
  p.pos_ids = pos_ids.tensor.data;
  p.pos_ids_stride = rows::step(pos_ids.tensor, 0);
  config.positions = kernels::RopePositions::ids;
  config.pos_dtype = check::to_kernel(pos_ids.tensor.dtype);
  check_host_positions(pos_ids, p, config);
}

void set_ragged_positions(const Arg& q, const Arg& indptr, const Arg& offsets, RopeParams& p,
                          RopeConfig& config) {
  check_index(indptr, q);
  check_index(offsets, q);
  check::dtype(offsets, {indptr.tensor.dtype});
  if (indptr.tensor.shape[0] == 0) {
    check::fail(indptr.op, indptr.name, "0 entries", "batch + 1 entries");
  }
  check::dim(offsets, 0, indptr.tensor.shape[0] - 1, "batch of indptr");
  p.nnz = rows::count(q, q.tensor.shape[0], "tokens");
  p.indptr = indptr.tensor.data;
  p.indptr_stride = rows::step(indptr.tensor, 0);
  p.offsets = offsets.tensor.data;
  p.offsets_stride = rows::step(offsets.tensor, 0);
  p.num_requests = rows::count(offsets, offsets.tensor.shape[0], "requests");
  config.positions = kernels::RopePositions::ragged;
  config.pos_dtype = check::to_kernel(indptr.tensor.dtype);
  if (q.tensor.device.is_cpu()) check_host_indptr(indptr, config, p.nnz);
  check_host_positions(offsets, p, config);
}

}  // namespace quire
