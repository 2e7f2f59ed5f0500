// Batch attention against the double reference: shapes, layouts, masks, splits, poison.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/attention_shapes.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

void add_dtypes_and_groups(std::vector<AttentionCase>& cases) {
  for (const DType dtype : dtypes()) {
    for (const int group : {1, 4, 7, 8}) {
      if (is_emulated() && dtype == DType::f16 && group != 7) continue;
      for (const bool prefill : {false, true}) {
        const std::string suffix = std::string(name(dtype)) + "_group" + std::to_string(group);
        AttentionCase c = prefill ? mixed("mixed_" + suffix) : decode("decode_" + suffix);
        c.shape.num_kv_heads = is_emulated() ? 1 : 2;
        c.shape.num_qo_heads = c.shape.num_kv_heads * group;
        set_dtype(c, dtype);
        c.causal = prefill;
        cases.push_back(c);
      }
    }
  }
}

void add_head_dims(std::vector<AttentionCase>& cases) {
  struct HeadDims {
    int qk, vo;
  };
  for (const HeadDims dims : {HeadDims{80, 80},
                              {96, 96},
                              {128, 128},
                              {256, 256},
                              {192, 128},
                              {16, 16},
                              {64, 128},
                              {128, 64}}) {
    for (const bool prefill : {false, true}) {
      const std::string suffix = std::to_string(dims.qk) + "_" + std::to_string(dims.vo);
      AttentionCase c = prefill ? mixed("mixed_dims" + suffix) : decode("decode_dims" + suffix);
      if (is_emulated()) {
        c.shape.num_qo_heads = 2;
        c.shape.num_kv_heads = 1;
      }
      c.shape.head_dim_qk = dims.qk;
      c.shape.head_dim_vo = dims.vo;
      c.causal = prefill;
      cases.push_back(c);
    }
  }
}

// Tiles of two consumer warpgroups, of which the second may have no rows; several items a worker.
void add_row_tiles(std::vector<AttentionCase>& cases) {
  for (const int group : {1, 3, 4}) {
    AttentionCase c{.name = "row_tiles_dims256_group" + std::to_string(group),
                    .qo_lens = {150 / group, 90, 260 / group},
                    .kv_lens = {170, 200, 260 / group}};
    c.shape.head_dim_qk = c.shape.head_dim_vo = 256;
    c.shape.num_kv_heads = 1;
    c.shape.num_qo_heads = group;
    c.causal = true;
    cases.push_back(c);
  }
}

void add_kv_layouts(std::vector<AttentionCase>& cases) {
  for (const int page_size : {0, 1, 5, 16, 64}) {
    for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
      for (const bool packed : {false, true}) {
        const std::string name = std::string(layout == KvLayout::nhd ? "nhd" : "hnd") + "_page" +
                                 std::to_string(page_size) + (packed ? "_packed" : "");
        AttentionCase c = mixed(name);
        c.shape.page_size = page_size;
        c.shape.layout = layout;
        c.packed_kv = packed;
        c.indices_on_device = packed;
        c.causal = true;
        cases.push_back(c);
      }
    }
  }
  for (const bool prefill : {false, true}) {
    AttentionCase odd = prefill ? mixed("mixed_odd_strides") : decode("decode_odd_strides");
    odd.odd_stride = 3;
    cases.push_back(odd);
  }
}

void add_masks(std::vector<AttentionCase>& cases) {
  const auto add = [&cases](const std::string& name, auto&& change) {
    AttentionCase c = mixed(name);
    change(c);
    cases.push_back(c);
  };
  add("full", [](AttentionCase&) {});
  add("causal", [](AttentionCase& c) { c.causal = true; });
  add("window", [](AttentionCase& c) { c.window_left = 9; });
  add("window0", [](AttentionCase& c) { c.window_left = 0; });
  add("causal_window", [](AttentionCase& c) { c.causal = true, c.window_left = 13; });
  add("soft_cap", [](AttentionCase& c) { c.logits_soft_cap = 2.5f, c.q_scale = 4; });
  add("sm_scale", [](AttentionCase& c) { c.sm_scale = 0.4f; });
  add("v_scale", [](AttentionCase& c) { c.k_scale = 0.5f, c.v_scale = 3.f; });
  add("sinks", [](AttentionCase& c) { c.sinks = true, c.causal = true; });
  add("alibi", [](AttentionCase& c) { c.alibi = true; });
  add("alibi_causal_soft_cap", [](AttentionCase& c) {
    c.alibi = c.causal = c.sinks = true;
    c.logits_soft_cap = 1.5f;
    c.sm_scale = 0.3f;
    c.shape.num_qo_heads = 8;
  });
  add("base2", [](AttentionCase& c) { c.lse_base = LseBase::two, c.sinks = true; });
  add("no_lse", [](AttentionCase& c) { c.with_lse = false; });
  add("custom_mask", [](AttentionCase& c) { c.custom_mask = true; });
  add("empty_mask_rows", [](AttentionCase& c) { c.custom_mask = c.empty_mask_rows = true; });
  add("everything", [](AttentionCase& c) {
    c.custom_mask = c.sinks = c.causal = c.packed_kv = true;
    c.window_left = 50;
    c.logits_soft_cap = 5;
    c.shape.page_size = 5;
  });
  add("more_queries_than_kv", [](AttentionCase& c) {
    c.qo_lens = {40, 9};
    c.kv_lens = {17, 3};
    c.causal = true;
  });
  add("very_negative_logits", [](AttentionCase& c) { c.q_scale = 3000, c.sm_scale = 10.f; });
}

void add_splits(std::vector<AttentionCase>& cases) {
  for (const int split : {1, 7, 16, 64}) {
    if (is_emulated() && split == 1) continue;
    for (const bool sinks : {false, true}) {
      AttentionCase c = mixed("split" + std::to_string(split) + (sinks ? "_sinks" : ""));
      c.plan.fixed_split_size = split;
      c.causal = c.sinks = sinks;
      c.v_scale = 2.f;
      c.alibi = split == 16;
      cases.push_back(c);
    }
  }
  AttentionCase whole = mixed("split_disabled");
  whole.plan.disable_split_kv = true;
  cases.push_back(whole);
  AttentionCase chosen = decode("split_chosen");
  chosen.qo_lens = {1};
  chosen.kv_lens = {is_emulated() ? 300 : 3001};
  chosen.shape.num_kv_heads = 1;
  cases.push_back(chosen);
  AttentionCase hinted = mixed("hints");
  hinted.plan.causal = true;
  hinted.plan.window_left = 8;  // hints that are wrong for the run must not matter
  cases.push_back(hinted);
}

void add_edges(std::vector<AttentionCase>& cases) {
  AttentionCase none{.name = "batch0", .qo_lens = {}, .kv_lens = {}};
  cases.push_back(none);
  AttentionCase no_kv{.name = "no_kv", .qo_lens = {3, 1}, .kv_lens = {0, 0}};
  cases.push_back(no_kv);
  AttentionCase no_kv_sinks = no_kv;
  no_kv_sinks.name = "no_kv_sinks";
  no_kv_sinks.sinks = true;
  cases.push_back(no_kv_sinks);
  AttentionCase no_queries{.name = "no_queries", .qo_lens = {0, 0}, .kv_lens = {30, 2}};
  cases.push_back(no_queries);
}

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases;
  add_dtypes_and_groups(cases);
  add_head_dims(cases);
  add_row_tiles(cases);
  add_kv_layouts(cases);
  add_masks(cases);
  add_splits(cases);
  add_edges(cases);
  return cases;
}

class Attention : public testing::TestWithParam<AttentionCase> {};

TEST_P(Attention, AgreesWithReference) {
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, Attention, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace quire::test
