#include "cpu/attention.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "cpu/attention_item.h"
#include "cpu/attention_rows.h"

namespace quire::cpu {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionParams;
using kernels::MergeItem;

// A block of K and V of this many tokens and its scores stay in the first two cache levels.
constexpr int kTileKv = kMaxTileKv;
constexpr int kTileQ = 64;

using Levels = std::span<const MergeItem>;  // of the same rows

// Calls f(row) with the partial rows of row r.
template <class F>
void for_each_part(Levels levels, std::int64_t r, F&& f) {
  for (const MergeItem& item : levels) {
    for (std::int64_t s = 0; s < item.num_parts; ++s)
      f(item.partial_row + s * item.part_stride + r);
  }
}

// Joins the parts of each row; no parts: rows without KV.
void merge(const AttentionConfig& c, const AttentionParams& p, Levels levels, float* o) {
  const MergeItem& item = levels.front();
  for (std::int64_t r = 0; r < item.num_rows; ++r) {
    float largest = kNegInf;
    for_each_part(levels, r,
                  [&](std::int64_t row) { largest = std::max(largest, p.partial_lse[row]); });
    std::fill_n(o, c.head_dim_vo, 0.f);
    float sum = 0.f;
    for_each_part(levels, r, [&](std::int64_t row) {
      const float weight = largest == kNegInf ? 0.f : std::exp2(p.partial_lse[row] - largest);
      if (weight == 0.f) return;
      sum += weight;
      simd::add_weighted_rows(&weight, 1, 1, p.partial_o + row * c.head_dim_vo, 1, c.head_dim_vo,
                              o);
    });
    if (sum != 0.f) simd::scale(o, c.head_dim_vo, 1.f / sum);
    const float lse = sum == 0.f ? kNegInf : (largest + std::log2(sum)) * kLn2;
    write_row(c, p, row_position(p, item.request, item.kv_head, item.q_begin + r), o, lse);
  }
}

}  // namespace

AttentionConfig attention_config(const AttentionConfig& shape) {
  AttentionConfig config = shape;
  config.tile_q = kTileQ;
  config.tile_kv = kTileKv;
  return config;
}

plan::AttentionTile attention_tile(const AttentionConfig& config) {
  return {.num_workers = omp_get_max_threads(), .tile_q = config.tile_q, .tile_kv = config.tile_kv};
}

void attention(const AttentionConfig& config, const AttentionParams& params) {
  const int num_threads =
      std::clamp(std::max(params.num_items, params.num_merges), 1, omp_get_max_threads());
  const std::size_t floats = attention_scratch_floats(config);
  // Before the threads start: an exception must not leave one of them.
  std::vector<float> scratch(floats * static_cast<std::size_t>(num_threads));
#pragma omp parallel num_threads(num_threads)
  {
    float* mine = scratch.data() + floats * static_cast<std::size_t>(omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < params.num_items; ++i) {
      attention_item(config, params, params.items[i], mine);
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < params.num_merges; i += params.num_levels) {
      merge(config, params, {params.merges + i, static_cast<std::size_t>(params.num_levels)}, mine);
    }
  }
}

}  // namespace quire::cpu
