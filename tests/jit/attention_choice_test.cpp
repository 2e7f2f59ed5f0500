// The dispatch table of attention on CUDA, without a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "attention/attention_decode_layout.h"
#include "attention/attention_sm80_layout.h"
#include "attention/attention_sm90_layout.h"
#include "cuda/attention_config.h"
#include "cuda/attention_sm90.h"
#include "jit/attention_demand.h"
#include "jit/kernel_spec.h"
#include "jit/scoped_environment.h"
#include "ops/attention_target.h"
#include "quire/error.h"

namespace quire {
namespace {

using cuda::AttentionChoice;
using cuda::AttentionDemand;
using kernels::AttentionConfig;
using kernels::AttentionKernel;
using test::first;
using test::hopper;

bool is_valid(const AttentionConfig& c) {
  switch (c.kernel) {
    case AttentionKernel::sm90:
      return kernels::sm90_config_valid(c);
    case AttentionKernel::decode:
      return kernels::decode_config_valid(c);
    default:
      return kernels::sm80_config_valid(c);
  }
}

TEST(AttentionChoice, EveryDemandGetsAKernelThatIsValid) {
  for (const int major : {8, 9, 10, 12}) {
    for (int head_dim = 16; head_dim <= 256; head_dim += 16) {
      for (const double rows : {0., 1., 16., 17., 64., 65., 128., 129., 1e6}) {
        for (const int page_size : {0, 1, 16, 48, 100, 128}) {
          for (const int group_size : {1, 7, 64, 200}) {
            const AttentionDemand demand{
                .shape = {.head_dim_qk = head_dim, .head_dim_vo = head_dim},
                .mean_packed_rows = rows,
                .max_packed_rows = rows,
                .group_size = group_size,
                .page_size = page_size,
                .compute_major = major};
            const auto choices = cuda::attention_choices(demand);
            ASSERT_FALSE(choices.empty());
            for (const AttentionChoice& choice : choices) {
              const AttentionConfig& c = choice.config;
              EXPECT_STRNE(choice.reason, "");
              const bool sm90 = c.kernel == AttentionKernel::sm90;
              EXPECT_TRUE(!c.boxes || page_size == 0 || std::gcd(page_size, c.tile_kv) % 8 == 0);
              EXPECT_TRUE(is_valid(c));
              EXPECT_TRUE(!sm90 || major == 9);
              EXPECT_TRUE(!c.boxes || major >= 9);
              EXPECT_GT(cuda::attention_tile_rows(c, group_size), 0);
            }
          }
        }
      }
    }
  }
}

// 160 and 192 bytes: rows of K that end inside a panel of 128.
TEST(AttentionChoice, LargeBatchesOfSuchHeadsAreGathered) {
  for (const int head_dim : {80, 96}) {
    AttentionDemand demand = hopper(head_dim, 32);
    demand.page_size = 16;
    EXPECT_EQ(first(demand).kernel, AttentionKernel::sm90);
    EXPECT_TRUE(first(demand).boxes);
    demand.num_tiles = 1000;
    EXPECT_FALSE(first(demand).boxes);
    demand.mean_packed_rows = demand.max_packed_rows = 256;
    EXPECT_TRUE(first(demand).boxes);
  }
}

TEST(AttentionChoice, HopperDoesManyRows) {
  EXPECT_EQ(first(hopper(128, 1000)).kernel, AttentionKernel::sm90);
  EXPECT_TRUE(first(hopper(128, 1000)).boxes);
}

TEST(AttentionChoice, Fp8QueriesRunOnHopperOnly) {
  using kernels::DType;
  for (int head_dim = 16; head_dim <= 256; head_dim += 16) {
    for (const double rows : {0., 1., 64., 65., 1e6}) {
      for (const int page_size : {0, 1, 16, 48, 100}) {
        for (const int group_size : {1, 7, 64, 200}) {
          AttentionDemand demand = hopper(head_dim, rows);
          demand.group_size = group_size;
          demand.page_size = page_size;
          demand.shape.q_dtype = demand.shape.kv_dtype = DType::f8e4m3;
          EXPECT_EQ(cuda::attention_unsupported(demand), "");
          const auto choices = cuda::attention_choices(demand);
          ASSERT_FALSE(choices.empty());
          for (const AttentionChoice& choice : choices) {
            EXPECT_TRUE(kernels::sm90_config_valid(choice.config));
            EXPECT_GT(cuda::attention_tile_rows(choice.config, group_size), 0);
          }
          demand.compute_major = 10;
          EXPECT_NE(cuda::attention_unsupported(demand), "");
          EXPECT_TRUE(cuda::attention_choices(demand).empty());
        }
      }
    }
  }
}

TEST(AttentionChoice, Fp8CachesAreConvertedOnHopper) {
  using kernels::DType;
  for (const DType dtype : {DType::f8e4m3, DType::f8e5m2}) {
    for (int head_dim = 16; head_dim <= 256; head_dim += 16) {
      for (const int page_size : {0, 1, 16, 48, 100}) {
        AttentionDemand demand = hopper(head_dim, 1000);
        demand.shape.kv_dtype = dtype;
        demand.page_size = page_size;
        const auto choices = cuda::attention_choices(demand);
        const auto fits = std::find_if(choices.begin(), choices.end(), [](const auto& choice) {
          return cuda::attention_smem_bytes(choice.config) <= kernels::kSm90MaxSmemBytes;
        });
        ASSERT_NE(fits, choices.end());
        EXPECT_TRUE(kernels::sm90_config_valid(fits->config)) << fits->reason;
        demand.mean_packed_rows = 8;
        EXPECT_EQ(first(demand).kernel, AttentionKernel::sm80);
        demand.compute_major = 10;
        EXPECT_EQ(first(demand).kernel, AttentionKernel::sm80);
      }
    }
  }
}

TEST(AttentionChoice, BoxesWhereTheyFit) {
  AttentionDemand demand = hopper(128, 1000);
  demand.page_size = 48;
  EXPECT_TRUE(first(demand).boxes);
  demand.page_size = 24;  // of a smaller tile
  EXPECT_TRUE(first(demand).boxes);
  EXPECT_EQ(first(demand).tile_kv, 96);
  demand.page_size = 20;
  EXPECT_FALSE(first(demand).boxes);
  demand.page_size = 16;
  demand.fixed_split_size = 100;  // parts that begin inside a box
  EXPECT_FALSE(first(demand).boxes);
  demand.fixed_split_size = 160;
  EXPECT_TRUE(first(demand).boxes);
  demand.group_size = 129;  // more heads than rows of a tile
  EXPECT_FALSE(first(demand).boxes);
  demand.group_size = 901;  // more than the Hopper kernel divides by
  EXPECT_EQ(first(demand).kernel, AttentionKernel::sm80);
}

TEST(AttentionChoice, BoxesBringWholeGroups) {
  const AttentionConfig boxes = first(hopper(128, 1000));
  EXPECT_EQ(cuda::attention_tile_rows(boxes, 7), 126);
  EXPECT_EQ(cuda::attention_tile_rows(boxes, 4), 128);
  AttentionDemand demand = hopper(128, 1000);
  demand.page_size = 1;
  EXPECT_EQ(cuda::attention_tile_rows(first(hopper(128, 7)), 7), 8);  // decode copies q by rows
  EXPECT_EQ(cuda::attention_tile_rows(first(demand), 7), 128);
}

TEST(AttentionChoice, UnalignedRowsKeepTheTileOfRows) {
  for (const int head_dim : {64, 128, 192, 256}) {
    const AttentionConfig planned = first(hopper(head_dim, 1000));
    const AttentionConfig c = cuda::row_attention(planned, /*aligned=*/false);
    EXPECT_FALSE(c.aligned);
    EXPECT_FALSE(c.boxes);
    EXPECT_EQ(c.tile_q, planned.tile_q);
    EXPECT_TRUE(kernels::sm90_config_valid(c));
  }
}

// What the table can come to on Hopper, and what that turns to over rows that are not aligned:
// only some of them are built where no GPU is.
TEST(AttentionChoice, HopperKernelsCanBeBuilt) {
  using kernels::DType;
  struct Types {
    DType q, kv;
  };
  const auto check = [](const AttentionConfig& c) {
    EXPECT_TRUE(kernels::sm90_config_valid(c)) << jit::config_literal(c);
    EXPECT_TRUE(kernels::registers_fit(kernels::sm90_layout(c))) << jit::config_literal(c);
  };
  for (const Types types : {Types{DType::bf16, DType::bf16},
                            {DType::f16, DType::f8e4m3},
                            {DType::bf16, DType::f8e5m2},
                            {DType::f8e4m3, DType::f8e4m3}}) {
    for (int head_dim = 16; head_dim <= 256; head_dim += 16) {
      for (const int page_size : {0, 1, 16}) {
        for (const double rows : {1., 12., 40., 100., 1000., 10000.}) {
          AttentionDemand demand = hopper(head_dim, rows);
          demand.shape.q_dtype = types.q, demand.shape.kv_dtype = types.kv;
          demand.page_size = page_size;
          demand.beside_decode = rows > 1000;
          for (const cuda::AttentionChoice& choice : cuda::attention_choices(demand)) {
            if (choice.config.kernel != AttentionKernel::sm90) continue;
            if (cuda::attention_smem_bytes(choice.config) > kernels::kSm90MaxSmemBytes) continue;
            check(choice.config);
            check(cuda::row_attention(choice.config, /*aligned=*/true));
            check(cuda::row_attention(choice.config, /*aligned=*/false));
          }
        }
      }
    }
  }
}

TEST(AttentionChoice, ClassesOfRowsGetTheSameChoices) {
  for (const double rows :
       {0., 1., 3.5, 8., 9., 15.9, 16., 16.1, 32., 33., 64., 65., 128., 129., 1e6}) {
    const double of_class = cuda::rows_class(rows);
    EXPECT_EQ(cuda::rows_class(of_class), of_class);
    for (const int head_dim : {64, 128, 256}) {
      for (const int compute_major : {8, 9}) {
        AttentionDemand demand = hopper(head_dim, rows);
        demand.compute_major = compute_major;
        const auto expected = cuda::attention_choices(demand);
        demand.mean_packed_rows = demand.max_packed_rows = of_class;
        const auto got = cuda::attention_choices(demand);
        ASSERT_EQ(got.size(), expected.size()) << rows;
        for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].config, expected[i].config);
      }
    }
  }
}

TEST(AttentionChoice, TokensAreFoundOnPagesOfAnySize) {
  AttentionConfig config = hopper(128, 1).shape;
  config.kernel = AttentionKernel::sm90;
  constexpr int kLargest = std::numeric_limits<int>::max();
  for (const int size : {1, 2, 3, 5, 7, 16, 48, 63, 64, 65, 1000, 4097, 1 << 30, kLargest}) {
    const kernels::Divisor pages = cuda::sm90_params(config, {.page_size = size}).page_size;
    for (const int token : {0, 1, size - 1, size, kLargest - 1, kLargest, kLargest / size * size,
                            std::max(kLargest / size * size - 1, 0)}) {
      ASSERT_EQ(pages.quotient(token), token / size) << token << " of pages of " << size;
    }
  }
}

TEST(AttentionChoice, LongPromptsBesideDecodeShareWhatIsGathered) {
  AttentionDemand demand = hopper(128, 16384);
  demand.page_size = 1;
  EXPECT_EQ(first(demand).tile_q, 128);
  demand.beside_decode = true;
  EXPECT_EQ(first(demand).tile_q, 192);
  EXPECT_EQ(first(demand).num_stages, 4);
  demand.page_size = 16;
  EXPECT_EQ(first(demand).tile_q, 128);
}

TEST(AttentionChoice, CanBeForced) {
  {
    const test::ScopedVariable force("QUIRE_FORCE_KERNEL", "sm80");
    EXPECT_EQ(first(hopper(128, 1000)).kernel, AttentionKernel::sm80);
  }
  {
    const test::ScopedVariable force("QUIRE_FORCE_KERNEL", "sm90");
    EXPECT_TRUE(cuda::attention_choices({.mean_packed_rows = 1000, .compute_major = 8}).empty());
    EXPECT_EQ(first(hopper(128, 1)).kernel, AttentionKernel::sm90);  // decode too
  }
  {
    const test::ScopedVariable force("QUIRE_FORCE_KERNEL", "decode");
    for (const int head_dim : {16, 64, 128, 192, 256}) {
      const auto choices = cuda::attention_choices(hopper(head_dim, 1000));
      ASSERT_FALSE(choices.empty());
      EXPECT_TRUE(is_valid(choices.front().config));
      EXPECT_EQ(choices.front().config.kernel, AttentionKernel::decode);
    }
  }
  const test::ScopedVariable force("QUIRE_FORCE_KERNEL", "fastest");
  EXPECT_THROW(cuda::attention_choices(hopper(128, 1000)), Error);
}

// 64 requests of one row each behind a prefix, and 64 that share nothing.
TEST(AttentionChoice, CascadesAreChosenByWhereTheTokensAre) {
  const auto rows_behind = [](int prefix) {
    AttentionLengths lengths;
    lengths.qo_lens.assign(66, 1);
    lengths.kv_lens.assign(66, 512);
    lengths.qo_lens[0] = 64, lengths.kv_lens[0] = prefix;
    lengths.qo_lens[1] = lengths.kv_lens[1] = 0;  // between the levels
    lengths.first_requests = {0, 2};
    return packed_rows(lengths, 4, 8);
  };
  const auto chosen = [](PackedRows rows) {
    AttentionDemand demand = hopper(128, cuda::rows_class(rows.mean));
    demand.max_packed_rows = cuda::rows_class(rows.max);
    demand.page_size = 16;
    return first(demand);
  };
  const PackedRows shared = rows_behind(8192), alone = rows_behind(0);
  EXPECT_DOUBLE_EQ(shared.mean, (256. * 8192 + 4. * 64 * 512) / (8192 + 64 * 512));
  EXPECT_EQ(chosen(shared).kernel, AttentionKernel::sm90);
  EXPECT_EQ(chosen(shared).tile_q, 64);
  EXPECT_DOUBLE_EQ(alone.mean, 4);
  EXPECT_EQ(chosen(alone).kernel, AttentionKernel::sm80);  // not decode, which would fit
  EXPECT_EQ(chosen(alone).tile_q, 16);
}

}  // namespace
}  // namespace quire
