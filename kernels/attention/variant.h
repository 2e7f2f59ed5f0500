// Custom attention variants: what a user's snippet is given, and how a kernel calls it.
//
// A generated header (src/cuda/attention_variant.cpp) puts the snippet between this file and the
// kernel. The snippet defines `struct Variant` with at least one of the first two functions:
//
//   static float logits(const Arguments& args, const Row& row, float score, int kv_token);
//   static bool visible(const Arguments& args, const Row& row, int kv_token);
//   static Row row(const Arguments& args, const QueryRow& row);  // once a row, kept in registers
//
// Without row(), Row is QueryRow. `score` is the logit so far: q k^T times sm_scale, after soft cap
// and ALiBi. kv_token is always a token of the request, but logits() is also asked about tokens
// that the masks hide; visible() only hides more than they do.
#pragma once

#include "attention/work_tile.h"
#include "tile/convert.h"

namespace quire::kernels {

// A row of q: one token of a request and one qo head.
struct QueryRow {
  int request;
  int token;     // of the request's rows of q: 0 .. qo_len - 1
  int position;  // kv_len - qo_len + token: the kv token at the row's own place; can be negative
  int qo_len, kv_len;
  int qo_head, kv_head;
};

// The QueryRow of a packed row of a work item; past its last row, that one again.
inline QueryRow query_row(const AttentionParams& p, const WorkTile& t, int tile_row) {
  const int packed = t.q_begin + tile::min_of(tile_row, t.num_rows - 1);
  const int token = packed / p.group_size;
  return {.request = t.request,
          .token = token,
          .position = t.kv_len - t.qo_len + token,
          .qo_len = t.qo_len,
          .kv_len = t.kv_len,
          .qo_head = t.kv_head * p.group_size + packed % p.group_size,
          .kv_head = t.kv_head};
}

// The snippet's Variant and Arguments; the generated header specialises it for `custom`.
template <VariantKind kind>
struct VariantSource;

// Which of the three functions a snippet has. One of the right name and the wrong parameters
// counts: the compiler then says at the call what is wrong with it.
template <class Variant, class Arguments>
constexpr bool kHasRow = requires(const Arguments& args, const QueryRow& row) {
  Variant::row(args, row);
} || requires { &Variant::row; };
template <class Variant, class Arguments, class Row>
constexpr bool kHasLogits = requires(const Arguments& args, const Row& row) {
  Variant::logits(args, row, 0.f, 0);
} || requires { &Variant::logits; };
template <class Variant, class Arguments, class Row>
constexpr bool kHasVisible = requires(const Arguments& args, const Row& row) {
  Variant::visible(args, row, 0);
} || requires { &Variant::visible; };

template <class Variant, class Arguments>
inline auto make_variant_row(const Arguments& args, const QueryRow& row) {
  if constexpr (kHasRow<Variant, Arguments>) {
    return Variant::row(args, row);
  } else {
    return row;
  }
}

// What a thread keeps for the two rows, g and g + 8, of an accumulator: nothing without a variant.
template <VariantKind kind>
struct VariantRows {
  using Arguments = typename VariantSource<kind>::Arguments;
  using Variant = typename VariantSource<kind>::Variant;
  using Row = decltype(make_variant_row<Variant>(Arguments(VariantValues{}), QueryRow{}));
  static constexpr bool kLogits = kHasLogits<Variant, Arguments, Row>;
  static constexpr bool kVisible = kHasVisible<Variant, Arguments, Row>;
  static_assert(kLogits || kVisible, "struct Variant has neither logits() nor visible()");

  Row rows[2];

  // tile_row: of the thread's first row in the work item.
  void set(const AttentionParams& p, const WorkTile& t, int tile_row) {
    for (int half = 0; half < 2; ++half) {
      rows[half] =
          make_variant_row<Variant>(Arguments(p.variant), query_row(p, t, tile_row + 8 * half));
    }
  }

  // A logit in natural units to the one that counts, or to `hidden`.
  float apply(const Arguments& args, int half, float logit, int kv_token, float hidden) const {
    if constexpr (kLogits) logit = Variant::logits(args, rows[half], logit, kv_token);
    if constexpr (kVisible) {
      if (!Variant::visible(args, rows[half], kv_token)) logit = hidden;
    }
    return logit;
  }
};

template <>
struct VariantRows<VariantKind::none> {
  void set(const AttentionParams&, const WorkTile&, int) {}
};

}  // namespace quire::kernels
