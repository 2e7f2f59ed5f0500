// The dispatch table of attention on CUDA, of attention_config.cpp alone.
#pragma once

#include <cstdint>

#include "attention/attention_types.h"

namespace quire::cuda::attention_table {

using kernels::AttentionKernel;

constexpr double kAny = 1e30;

// Where a row of the table stands. few_tiles, fewer_tiles: everywhere but on Hopper with as many
// tiles as multiprocessors, or a quarter as many, where attention_sm90 takes less; of few it would
// cut KV, and merge by a second launch.
enum class Where : std::uint8_t { anywhere, beside_decode, few_tiles, fewer_tiles };
constexpr auto beside_decode = Where::beside_decode;
constexpr auto few = Where::few_tiles;
constexpr auto fewer = Where::fewer_tiles;

// A row of the table: for head dims up to max_head_dim and min_rows < packed rows <= max_rows, on
// average, of decode at most. Decode takes the smallest tile_q of 8, 16, … that holds a request,
// the row's at most.
struct Row {
  AttentionKernel kernel;
  int q_bits, kv_bits;  // of an element; kv_bits 0: 8 or 16
  bool boxes;
  int max_head_dim;
  double min_rows, max_rows;
  int tile_q, tile_kv, warps_q, warps_kv, num_stages;
  const char* reason;
  Where where = Where::anywhere;
};
constexpr auto sm80 = AttentionKernel::sm80;
constexpr auto sm90 = AttentionKernel::sm90;
constexpr auto decode = AttentionKernel::decode;

// Best first. Figures: H100 80GB HBM3, docs/kernels/attention_sm80.md and attention_sm90.md.
constexpr Row kTable[] = {
    {decode, 16, 0, true, 64, -1, 8, 8, 32, 1, 8, 2,
     "decode: 128 KB on their way a multiprocessor"},
    {decode, 16, 0, true, 128, -1, 8, 8, 16, 1, 8, 2,
     "decode: 128 KB on their way a multiprocessor"},
    {decode, 16, 0, true, 192, -1, 8, 8, 16, 1, 7, 2,
     "decode: two stages of eight warps do not fit"},
    {decode, 16, 0, true, 256, -1, 8, 8, 16, 1, 7, 1, "decode: one stage is 112 KB"},
    {decode, 16, 16, true, 64, -1, 16, 16, 32, 1, 7, 2, "decode: with more warps it spills", few},
    {decode, 16, 16, true, 128, -1, 16, 16, 16, 1, 7, 2, "decode: with more warps it spills", few},
    {decode, 16, 16, true, 192, -1, 16, 16, 16, 1, 7, 2, "decode, large heads", few},
    {decode, 16, 16, true, 256, -1, 16, 16, 16, 1, 7, 1, "decode: one stage is 112 KB", few},
    {decode, 16, 8, true, 64, -1, 16, 16, 32, 1, 7, 2, "decode, fp8 cache: 8 % over 64 rows"},
    {decode, 16, 8, true, 192, -1, 16, 16, 16, 1, 7, 2, "decode, fp8 cache"},
    {decode, 16, 8, true, 256, -1, 16, 16, 16, 1, 7, 1, "decode, fp8 cache"},
    {decode, 16, 0, false, 64, -1, 8, 8, 32, 1, 8, 2, "decode, no boxes"},
    {decode, 16, 0, false, 128, -1, 8, 8, 16, 1, 8, 2, "decode, no boxes"},
    {decode, 16, 16, false, 64, -1, 16, 16, 32, 1, 7, 2, "decode, no boxes", fewer},
    {decode, 16, 16, false, 192, -1, 16, 16, 16, 1, 7, 2, "decode, no boxes", fewer},
    {sm90, 16, 16, true, 64, 128, kAny, 192, 112, 12, 1, 3,
     "three consumers: 30 % over two; 128 tokens spill"},
    {sm90, 16, 16, true, 64, 8, kAny, 64, 128, 4, 1, 3, "few rows"},
    {sm90, 16, 16, true, 128, 64, kAny, 128, 128, 8, 1, 3, "two consumers share K and V"},
    {sm90, 16, 16, true, 128, 8, kAny, 64, 128, 4, 1, 2, "few rows"},
    {sm90, 16, 16, true, 192, 64, kAny, 128, 96, 8, 1, 2, "two stages of q, k and v fit"},
    {sm90, 16, 16, true, 192, 8, kAny, 64, 96, 4, 1, 2, "few rows"},
    {sm90, 16, 16, true, 256, 64, kAny, 128, 64, 8, 1, 2, "80 tokens: 2 % less, 48: 7 %"},
    {sm90, 16, 16, true, 256, 64, kAny, 128, 64, 8, 1, 3,
     "groups that do not fill stages of 64 rows of q: K has the third stage"},
    {sm90, 16, 16, true, 256, 8, kAny, 64, 64, 4, 1, 2, "few rows"},
    {sm90, 16, 16, false, 64, 128, kAny, 192, 64, 12, 1, 6,
     "no boxes: 4 % over two consumers; more tokens spill"},
    {sm90, 16, 16, false, 64, 64, kAny, 128, 128, 8, 1, 3, "no boxes, small heads"},
    {sm90, 16, 16, false, 128, 8000, kAny, 192, 64, 12, 1, 4,
     "no boxes, while decode reads: three consumers share what is gathered", beside_decode},
    {sm90, 16, 16, false, 128, 64, kAny, 128, 128, 8, 1, 3,
     "no boxes: small pages, groups over a tile"},
    {sm90, 16, 16, false, 128, 8, kAny, 64, 128, 4, 1, 2, "no boxes, few rows"},
    {sm90, 16, 16, false, 192, 64, kAny, 128, 96, 8, 1, 2, "no boxes, large heads"},
    {sm90, 16, 16, false, 192, 8, kAny, 64, 96, 4, 1, 2, "no boxes, large heads, few rows"},
    {sm90, 16, 16, false, 256, 64, kAny, 128, 64, 8, 1, 2, "no boxes, large heads"},
    {sm90, 16, 16, false, 256, 8, kAny, 64, 64, 4, 1, 2, "no boxes, large heads, few rows"},
    {sm90, 16, 8, true, 64, 64, kAny, 128, 128, 8, 1, 3, "fp8 cache: a warpgroup converts it"},
    {sm90, 16, 8, true, 128, 64, kAny, 128, 128, 8, 1, 2, "fp8 cache: a warpgroup converts it"},
    {sm90, 16, 8, true, 128, 16, kAny, 64, 128, 4, 1, 2, "fp8 cache, few rows"},
    {sm90, 16, 8, true, 192, 64, kAny, 128, 96, 8, 1, 2, "fp8 cache, large heads"},
    {sm90, 16, 8, true, 192, 16, kAny, 64, 96, 4, 1, 2, "fp8 cache, large heads, few rows"},
    {sm90, 16, 8, true, 256, 64, kAny, 128, 48, 8, 1, 2, "fp8 cache: more tokens a step spill"},
    {sm90, 16, 8, true, 256, 16, kAny, 64, 64, 4, 1, 2, "fp8 cache, few rows"},
    {sm90, 16, 8, false, 128, 64, kAny, 128, 128, 8, 1, 2, "fp8 cache, no boxes"},
    {sm90, 16, 8, false, 128, 16, kAny, 64, 128, 4, 1, 2, "fp8 cache, no boxes, few rows"},
    {sm90, 16, 8, false, 192, 64, kAny, 128, 96, 8, 1, 2, "fp8 cache, no boxes, large heads"},
    {sm90, 16, 8, false, 256, 16, kAny, 64, 64, 4, 1, 2, "fp8 cache, no boxes: two spill"},
    {decode, 16, 0, true, 64, -1, 32, 32, 16, 1, 7, 4,
     "decode: on Hopper 64 rows take half to nine tenths of the time of 32 here"},
    {decode, 16, 0, true, 128, -1, 32, 32, 16, 1, 7, 2,
     "decode: on Hopper 64 rows take half to nine tenths of the time of 32 here"},
    {decode, 16, 0, false, 64, -1, 16, 16, 32, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 64, -1, 32, 32, 16, 1, 7, 4, "decode, no boxes"},
    {decode, 16, 0, false, 128, -1, 32, 32, 16, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 192, -1, 16, 16, 16, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 256, -1, 16, 16, 16, 1, 7, 1, "decode, no boxes"},
    {decode, 16, 0, false, 64, -1, 32, 32, 16, 1, 5, 4, "decode, less shared memory"},
    {decode, 16, 0, false, 128, -1, 32, 32, 16, 1, 5, 2, "decode, less shared memory"},
    {decode, 16, 0, false, 256, -1, 16, 16, 16, 1, 5, 1, "decode, less shared memory"},
    {decode, 16, 0, false, 64, -1, 16, 16, 32, 1, 3, 2, "decode, little shared memory"},
    {decode, 16, 0, false, 128, -1, 16, 16, 16, 1, 3, 2, "decode, little shared memory"},
    {decode, 16, 0, false, 256, -1, 8, 8, 16, 1, 3, 1, "decode, little shared memory"},
    {sm80, 16, 0, false, 128, -1, 16, 16, 64, 1, 4, 2,
     "decode: warps share the tokens, not the rows"},
    {sm80, 16, 0, false, 256, -1, 16, 16, 32, 1, 2, 2,
     "decode: warps share the tokens, not the rows"},
    {sm80, 16, 0, false, 64, 16, kAny, 64, 64, 4, 1, 2, "128 rows lose 7 % at head_dim 64"},
    {sm80, 16, 0, false, 128, 64, kAny, 128, 64, 8, 1, 2,
     "K and V shared by 128 rows: 20 % over 64"},
    {sm80, 16, 0, false, 128, 16, kAny, 64, 64, 4, 1, 2, "few rows, or little shared memory"},
    {sm80, 16, 0, false, 256, 64, kAny, 128, 32, 8, 1, 2,
     "registers are left for 32 tokens a step only"},
    {sm80, 16, 0, false, 256, 16, kAny, 64, 32, 4, 1, 2, "few rows, or little shared memory"},
    {sm80, 16, 0, false, 256, 16, kAny, 32, 32, 2, 1, 2, "little shared memory"},
    {decode, 16, 0, false, 64, -1, kAny, 32, 32, 1, 3, 2, "when forced: any number of rows"},
    {decode, 16, 0, false, 128, -1, kAny, 16, 16, 1, 3, 2, "when forced: any number of rows"},
    {decode, 16, 0, false, 256, -1, kAny, 8, 16, 1, 3, 1, "when forced: any number of rows"},
    {sm90, 16, 16, true, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, true, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, false, 128, -1, 16, 64, 128, 4, 1, 2,
     "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, false, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, true, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, true, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, false, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, false, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 8, 8, true, 64, 128, kAny, 192, 128, 12, 1, 3,
     "fp8, small heads: three consumers, 3 to 10 % over two"},
    {sm90, 8, 8, true, 128, 64, kAny, 128, 128, 8, 1, 3, "fp8: two consumers share K and V"},
    {sm90, 8, 8, true, 128, -1, kAny, 64, 128, 4, 1, 3, "fp8, few rows: no other kernel has it"},
    {sm90, 8, 8, true, 256, 64, kAny, 128, 64, 8, 1, 2, "fp8: more tokens a step spill"},
    {sm90, 8, 8, true, 256, -1, kAny, 64, 96, 4, 1, 2, "fp8, few rows"},
    {sm90, 8, 8, false, 128, 64, kAny, 128, 128, 8, 1, 3, "fp8, no boxes"},
    {sm90, 8, 8, false, 128, -1, kAny, 64, 128, 4, 1, 3, "fp8, no boxes, few rows"},
    {sm90, 8, 8, false, 256, -1, kAny, 64, 96, 4, 1, 2, "fp8, no boxes: two consumers spill"},
};

}  // namespace quire::cuda::attention_table
