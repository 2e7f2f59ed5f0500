// Batch attention with 8 bits, in the cache alone and in q too, against the double reference.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/attention_shapes.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Every type of q with an fp8 cache, whole and in parts, with scales of tensors and of heads.
void add_fp8_caches(std::vector<AttentionCase>& cases) {
  for (const DType kv : {DType::f8e4m3, DType::f8e5m2}) {
    for (const DType q : dtypes()) {
      for (const bool prefill : {false, true}) {
        const std::string types = std::string(name(kv)) + "_" + std::string(name(q));
        AttentionCase c = prefill ? mixed("mixed_kv_" + types) : decode("decode_kv_" + types);
        set_dtype(c, q);
        c.shape.kv_dtype = kv;
        c.head_scales = true;
        c.causal = prefill;
        cases.push_back(c);
      }
    }
  }
  const auto add = [&cases](AttentionCase c, auto&& change) {
    c.shape.kv_dtype = DType::f8e4m3;
    change(c);
    cases.push_back(c);
  };
  add(mixed("kv_f8_tensor_scales"),
      [](AttentionCase& c) { c.q_tensor_scale = 2, c.k_scale = 0.25f, c.v_scale = 1.5f; });
  add(mixed("kv_f8_all_scales"), [](AttentionCase& c) {
    c.head_scales = c.causal = true;
    c.k_scale = 0.25f, c.v_scale = 1.5f;
  });
  for (const bool sinks : {false, true}) {
    add(mixed(std::string("kv_f8_split") + (sinks ? "_sinks" : "")), [&](AttentionCase& c) {
      c.plan.fixed_split_size = 16;
      c.head_scales = true;
      c.sinks = c.causal = sinks;
      c.v_scale = 2;
    });
  }
  add(mixed("kv_f8_logits"), [](AttentionCase& c) {
    c.alibi = c.head_scales = true;
    c.logits_soft_cap = 1.5f;
  });
  add(mixed("kv_f8_alibi"), [](AttentionCase& c) { c.alibi = c.head_scales = true; });
  add(mixed("kv_f8_masks"), [](AttentionCase& c) {
    c.custom_mask = c.causal = c.head_scales = true;
    c.window_left = 20;
  });
  for (const int page_size : {0, 1, 16, 48, 64}) {
    add(mixed("kv_f8_many_tiles_page" + std::to_string(page_size)), [&](AttentionCase& c) {
      if (is_emulated()) c.shape.num_qo_heads = 4, c.shape.num_kv_heads = 2;
      c.qo_lens = {1, 40, 30}, c.kv_lens = {300, 300, 129};
      c.causal = c.head_scales = true;
      c.shape.page_size = page_size;
    });
  }
  for (const bool prefill : {false, true}) {
    const std::string suffix = prefill ? "_mixed" : "_decode";
    const auto base = [&](const std::string& name) {
      return prefill ? mixed(name + suffix) : decode(name + suffix);
    };
    add(base("kv_f8_odd_strides"), [](AttentionCase& c) { c.odd_stride = 3; });
    add(base("kv_f8_packed_hnd"), [](AttentionCase& c) {
      c.packed_kv = c.head_scales = true;
      c.shape.layout = KvLayout::hnd;
      c.shape.page_size = 5;
    });
    add(base("kv_f8_ragged"), [](AttentionCase& c) { c.shape.page_size = 0; });
    for (const int dim : {16, 80, 128, 192, 256}) {
      add(base("kv_f8_dim" + std::to_string(dim)), [&](AttentionCase& c) {
        if (is_emulated()) c.shape.num_qo_heads = 2, c.shape.num_kv_heads = 1;
        c.shape.head_dim_qk = dim;
        c.shape.head_dim_vo = dim == 192 ? 128 : dim;
      });
    }
  }
}

// Planned for boxes and of many rows, run on rows that no box describes.
void add_many_odd_rows(std::vector<AttentionCase>& cases, DType q) {
  for (const int dim : {64, 128, 192, 256}) {
    AttentionCase c =
        mixed("many_odd_rows_q_" + std::string(name(q)) + "_dim" + std::to_string(dim));
    c.shape.q_dtype = q, c.shape.kv_dtype = DType::f8e4m3;
    c.shape.num_qo_heads = 4, c.shape.num_kv_heads = 1;
    c.shape.head_dim_qk = c.shape.head_dim_vo = dim;
    c.shape.page_size = 16;
    c.qo_lens = {30, 50}, c.kv_lens = {70, 150};
    c.odd_stride = 3;
    c.causal = c.head_scales = true;
    cases.push_back(c);
  }
}

void add_fp8_query(std::vector<AttentionCase>& cases, AttentionCase c, auto&& change) {
  c.name = "q_f8_" + c.name;
  c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
  change(c);
  cases.push_back(c);
}

void add_fp8_query_shapes(std::vector<AttentionCase>& cases) {
  const auto add = [&](AttentionCase c, auto&& change) { add_fp8_query(cases, c, change); };
  for (const int page_size : {0, 1, 5, 16, 48, 64}) {
    for (const bool packed : {false, true}) {
      const std::string name = "page" + std::to_string(page_size) + (packed ? "_packed_hnd" : "");
      add(mixed(name), [&](AttentionCase& c) {
        c.shape.page_size = page_size;
        c.packed_kv = c.indices_on_device = packed;
        if (packed) c.shape.layout = KvLayout::hnd;
        c.causal = true;
      });
    }
  }
  for (const int group : {1, 4, 7, 8}) {
    for (const bool prefill : {false, true}) {
      const std::string name = "group" + std::to_string(group);
      add(prefill ? mixed("mixed_" + name) : decode("decode_" + name), [&](AttentionCase& c) {
        c.shape.num_kv_heads = is_emulated() ? 1 : 2;
        c.shape.num_qo_heads = c.shape.num_kv_heads * group;
        c.head_scales = true;
        c.causal = prefill;
      });
    }
  }
  struct HeadDims {
    int qk, vo;
  };
  for (const HeadDims dims :
       {HeadDims{16, 16}, {80, 80}, {128, 128}, {192, 128}, {64, 144}, {256, 256}}) {
    for (const bool prefill : {false, true}) {
      const std::string name = std::to_string(dims.qk) + "_" + std::to_string(dims.vo);
      add(prefill ? mixed("mixed_dims" + name) : decode("decode_dims" + name),
          [&](AttentionCase& c) {
            if (is_emulated()) c.shape.num_qo_heads = 2, c.shape.num_kv_heads = 1;
            c.shape.head_dim_qk = dims.qk;
            c.shape.head_dim_vo = dims.vo;
            c.head_scales = c.causal = prefill;
          });
      add(prefill ? mixed("mixed_page1_dims" + name) : decode("decode_page1_dims" + name),
          [&](AttentionCase& c) {
            if (is_emulated()) c.shape.num_qo_heads = 2, c.shape.num_kv_heads = 1;
            c.shape.head_dim_qk = dims.qk;
            c.shape.head_dim_vo = dims.vo;
            c.shape.page_size = 1;
          });
    }
  }
}

void add_fp8_query_options(std::vector<AttentionCase>& cases) {
  const auto add = [&](AttentionCase c, auto&& change) { add_fp8_query(cases, c, change); };
  add(mixed("full"), [](AttentionCase&) {});
  add(mixed("odd_strides"), [](AttentionCase& c) { c.odd_stride = 3; });
  add(mixed("many_tiles"), [](AttentionCase& c) {
    c.qo_lens = {1, 40, 30}, c.kv_lens = {300, 300, 129};
    c.causal = true;
    c.q_scale = 3;  // references move
  });
  struct ManyRows {  // of a request: three consumers, on Hopper
    const char* name;
    int odd_stride, page_size, split;
  };
  for (const ManyRows of : {ManyRows{"", 0, 16, 0},
                            {"_odd_strides", 3, 16, 0},
                            {"_page1", 0, 1, 0},
                            {"_ragged", 0, 0, 0},
                            {"_split", 0, 48, 128}}) {
    add(mixed(std::string("many_rows") + of.name), [&](AttentionCase& c) {
      c.shape.num_qo_heads = 8, c.shape.num_kv_heads = 1;
      c.shape.head_dim_qk = c.shape.head_dim_vo = 64;
      c.shape.page_size = of.page_size;
      c.qo_lens = {30, 5, 50}, c.kv_lens = {300, 7, 500};
      c.odd_stride = of.odd_stride;
      c.plan.fixed_split_size = of.split;
      c.causal = c.head_scales = true;
    });
  }
  for (const int scale : {6, 20}) {  // terms leave the range of P in tiles behind the first
    add(mixed("steep" + std::to_string(scale)), [&](AttentionCase& c) {
      c.qo_lens = {1, 40, 30}, c.kv_lens = {400, 300, 129};
      c.causal = scale == 6;
      c.q_scale = scale;
    });
  }
  add(mixed("causal_window"), [](AttentionCase& c) { c.causal = true, c.window_left = 13; });
  add(mixed("tensor_scales"),
      [](AttentionCase& c) { c.q_tensor_scale = 2, c.k_scale = 0.25f, c.v_scale = 1.5f; });
  add(mixed("sinks_base2"), [](AttentionCase& c) {
    c.sinks = c.causal = c.head_scales = true;
    c.lse_base = LseBase::two;
  });
  add(mixed("alibi"), [](AttentionCase& c) { c.alibi = c.head_scales = true; });
  add(mixed("custom_mask"),
      [](AttentionCase& c) { c.custom_mask = c.empty_mask_rows = c.head_scales = true; });
  add(mixed("no_lse"), [](AttentionCase& c) { c.with_lse = false; });
  add(mixed("more_queries_than_kv"), [](AttentionCase& c) {
    c.qo_lens = {40, 9}, c.kv_lens = {17, 3};
    c.causal = true;
  });
  for (const bool sinks : {false, true}) {
    add(mixed(std::string("split") + (sinks ? "_sinks" : "")), [&](AttentionCase& c) {
      c.plan.fixed_split_size = 16;
      c.head_scales = true;
      c.sinks = c.causal = sinks;
      c.v_scale = 2;
    });
  }
  add(mixed("page16_split7"), [](AttentionCase& c) { c.plan.fixed_split_size = 7; });
  add(mixed("ragged_split7"), [](AttentionCase& c) {
    c.shape.page_size = 0;
    c.plan.fixed_split_size = 7;
  });
  add(decode("split_chosen"), [](AttentionCase& c) {
    c.qo_lens = {1};
    c.kv_lens = {is_emulated() ? 300 : 3001};
    c.shape.num_kv_heads = 1;
  });
}

void add_fp8_queries(std::vector<AttentionCase>& cases) {
  if (is_emulated() && !wants_hopper()) {
    return;  // not_implemented there; see attention_errors_test.cpp
  }
  for (const DType o : {DType::bf16, DType::f16, DType::f32}) {
    for (const bool prefill : {false, true}) {
      const std::string suffix = "_f8_" + std::string(name(o));
      AttentionCase c = prefill ? mixed("mixed" + suffix) : decode("decode" + suffix);
      c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
      c.shape.o_dtype = o;
      c.head_scales = prefill;
      c.causal = prefill;
      c.q_tensor_scale = 0.5f;
      c.logits_soft_cap = prefill ? 4 : 0;
      cases.push_back(c);
    }
  }
  add_many_odd_rows(cases, DType::f8e4m3);
  add_fp8_query_shapes(cases);
  add_fp8_query_options(cases);
}

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases;
  add_fp8_caches(cases);
  add_many_odd_rows(cases, DType::bf16);
  add_fp8_queries(cases);
  return cases;
}

class AttentionFp8 : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionFp8, AgreesWithReference) {
  if (on_gpu() && GetParam().shape.q_dtype == DType::f8e4m3 && !is_hopper()) {
    GTEST_SKIP() << "fp8 queries are for Hopper";
  }
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, AttentionFp8, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace quire::test
