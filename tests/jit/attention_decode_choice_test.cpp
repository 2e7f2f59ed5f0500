// Where the dispatch table of attention chooses the decode kernel, and how that is planned and
// reads, without a device.
#include <gtest/gtest.h>

#include "attention/attention_decode_layout.h"
#include "cuda/attention_decode.h"
#include "jit/attention_demand.h"

namespace quire {
namespace {

using cuda::AttentionDemand;
using kernels::AttentionConfig;
using kernels::AttentionKernel;
using test::first;
using test::hopper;

TEST(AttentionDecodeChoice, FewRowsAreDecode) {
  AttentionDemand demand = hopper(128, 4);
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_TRUE(first(demand).boxes);
  EXPECT_EQ(first(demand).tile_q, 8);
  demand.max_packed_rows = 25;  // the largest request counts
  EXPECT_EQ(first(demand).tile_q, 32);
  demand.page_size = 16;
  EXPECT_TRUE(first(demand).boxes);
  demand.page_size = 4;  // less than the swizzle repeats in
  EXPECT_FALSE(first(demand).boxes);
  demand.compute_major = 8;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_FALSE(first(demand).boxes);
  demand.max_packed_rows = 33;  // accumulators of more rows do not fit a warp
  EXPECT_EQ(first(demand).kernel, AttentionKernel::sm80);
  EXPECT_EQ(first(hopper(128, 33)).kernel, AttentionKernel::sm90);
  EXPECT_EQ(first(hopper(256, 17)).kernel, AttentionKernel::sm90);
  EXPECT_EQ(first(hopper(128, 17)).kernel, AttentionKernel::sm90);  // as fast for 64 rows
  EXPECT_EQ(first(hopper(64, 32)).kernel, AttentionKernel::sm90);
  demand = hopper(128, 16);
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  demand.page_size = 1;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  demand = hopper(128, 32);
  demand.compute_major = 10;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_TRUE(first(demand).boxes);
  demand = hopper(80, 4);  // 160 bytes are no whole panels
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_FALSE(first(demand).boxes);
  demand.shape.variant = kernels::VariantKind::custom;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::sm80);
}

// As many bytes in a stage as 16-bit tokens have.
TEST(AttentionDecodeChoice, SixteenRowsOverAnFp8CacheHaveTilesOf32Tokens) {
  AttentionDemand demand = hopper(128, 16);
  EXPECT_EQ(first(demand).tile_kv, 16);
  demand.shape.kv_dtype = kernels::DType::f8e4m3;
  EXPECT_EQ(first(demand).tile_kv, 32);
}

TEST(AttentionDecodeChoice, DecodeTilesOfAnFp8CacheAreAsManyBytes) {
  AttentionDemand demand = hopper(128, 4);
  demand.shape.kv_dtype = kernels::DType::f8e4m3;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_EQ(kernels::decode_layout(first(demand)).ring_bytes,
            kernels::decode_layout(first(hopper(128, 4))).ring_bytes);
  EXPECT_TRUE(first(demand).boxes);
  demand.shape.head_dim_qk = demand.shape.head_dim_vo = 64;
  EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
  EXPECT_FALSE(first(demand).boxes);  // half a panel
}

// Where KV need not be cut 64 rows take less than 16; an fp8 cache would have to be converted.
TEST(AttentionDecodeChoice, ManyTilesOfMoreThanEightRowsAreNotDecodeOnHopper) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int page_size : {16, 1}) {
      AttentionDemand demand = hopper(head_dim, 12);
      demand.page_size = page_size;
      const bool gathers = page_size == 1 || head_dim == 96;
      const bool is_decode = head_dim < 256 || !gathers;
      demand.num_tiles = gathers ? 32 : 131;
      EXPECT_EQ(first(demand).kernel == AttentionKernel::decode, is_decode);
      demand.num_tiles = gathers ? 33 : 132;
      EXPECT_EQ(first(demand).kernel, AttentionKernel::sm90);
      EXPECT_EQ(first(demand).boxes, page_size == 16);
      demand.mean_packed_rows = demand.max_packed_rows = 8;
      EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
      demand.max_packed_rows = 12;
      demand.compute_major = 10;
      EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
      demand.compute_major = 9;
      demand.shape.kv_dtype = kernels::DType::f8e4m3;
      EXPECT_EQ(first(demand).kernel, AttentionKernel::decode);
    }
  }
  for (const int tiles : {1, 32, 33, 131, 132, 1000}) {
    const double same = cuda::tiles_class(tiles, 132);
    for (const int page_size : {16, 1}) {
      AttentionDemand demand = hopper(128, 12), other = demand;
      demand.page_size = other.page_size = page_size;
      demand.num_tiles = tiles, other.num_tiles = same;
      EXPECT_EQ(first(demand), first(other)) << tiles;
    }
  }
}

TEST(AttentionDecodeChoice, FasterMemoryTakesMoreWorkersForDecode) {
  const AttentionConfig many = first(hopper(128, 1000));
  AttentionDemand demand = hopper(128, 4);
  constexpr double kH200 = 1.467;
  for (const int page_size : {16, 1}) {
    demand.page_size = page_size;
    const AttentionConfig few = first(demand);
    ASSERT_EQ(few.kernel, AttentionKernel::decode);
    const plan::FewRowsTile tile = cuda::few_rows_tile(few, many, 1);
    const plan::FewRowsTile faster = cuda::few_rows_tile(few, many, kH200);
    EXPECT_EQ(tile.two, plan::TwoKernels::at_once);
    EXPECT_DOUBLE_EQ(faster.most_workers, kH200 * tile.most_workers);
    EXPECT_EQ(faster.two, page_size == 16 ? plan::TwoKernels::at_once  // not of most of them
                                          : plan::TwoKernels::few_last);
    EXPECT_GT(cuda::decode_memory_share(few, kH200), cuda::decode_memory_share(few, 1));
    EXPECT_EQ(cuda::decode_memory_share(few, 10), 1);
  }
}

TEST(AttentionDecodeChoice, ManyKvAreEvictedAsTheMemorySuits) {
  AttentionDemand demand = hopper(128, 4);
  demand.page_size = 1;
  const AttentionConfig few = first(demand);  // without boxes, which a driver would describe
  ASSERT_FALSE(few.boxes);
  cuda::DeviceLimits limits;
  limits.l2_bytes = 50 << 20;
  const auto eviction = [&](int num_tokens, double memory_bytes_per_s, bool beside) {
    limits.memory_bytes_per_s = memory_bytes_per_s;
    kernels::AttentionParams p{};
    p.page_size = 1;
    p.num_indices = num_tokens;
    p.num_kv_heads = 8;
    p.num_workers = 132;
    return cuda::decode_params(few, p, limits, beside).eviction;
  };
  using kernels::KvEviction;
  constexpr int kFew = 8192, kMany = 1 << 19;
  constexpr double kH100 = 3.352e12, kH200 = 4.917e12;
  EXPECT_EQ(eviction(kMany, kH100, false), KvEviction::normal);
  EXPECT_EQ(eviction(kMany, 0, false), KvEviction::normal);  // not known
  EXPECT_EQ(eviction(kMany, kH200, false), KvEviction::unchanged);
  for (const double rate : {kH100, kH200}) {
    EXPECT_EQ(eviction(kFew, rate, false), KvEviction::first);
    EXPECT_EQ(eviction(kMany, rate, true), KvEviction::first);
  }
}

}  // namespace
}  // namespace quire
