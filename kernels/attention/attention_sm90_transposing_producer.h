// The producer of attention_sm90 where it transposes V of 8 bits too: three consumers leave no room
// for a warpgroup that does. Its four warps transpose a quarter of every tile each, and have a role
// between two tiles: look up the items, and ask for q, K and V in boxes.
//
// While tile j is theirs, warps wait only for what consumers give back without V of tile j, which
// may be up to the waiting warp itself: K(j - 1) with V(j - 2), an item's q without its last V.
#pragma once

#include "attention/attention_sm90_boxes.h"
#include "attention/attention_sm90_transpose.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90TransposingProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  // Tiles that are asked for when V of one is transposed: of V that one and the next, of K one less
  // than fit, as the last stage is given back later than V's.
  static constexpr int kValuesAhead = kLayout.raw_v_stages, kKeysAhead = kLayout.k_stages - 1;
  // Items that are looked up before one begins: the next ones may have one tile each.
  static constexpr int kItemsAhead = 2;
  static_assert(kValuesAhead <= kItemsAhead && kKeysAhead <= kItemsAhead);
  // The tile of an item with which the next one's q is asked for: by the third, rows of the item
  // before have left their stage.
  static_assert(kLayout.q_stages == 2, "an item is read while the next one's q comes");
  static __forceinline__ int tile_of_next_q(int num_tiles) {
    return tile::min_of(2, num_tiles - 1);
  }

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;

  // Tiles of K or of V, asked for one by one in the order of the items, by one warp.
  template <bool is_v>
  struct Tiles {
    using Boxes = Sm90BoxProducer<c>;

    const Boxes boxes;
    Ring<Sm90Smem<c>::template kv_stages<is_v>()> ring;
    int count = -1;              // of the item
    int left = 0;                // of its tiles
    typename Boxes::Place next;  // of this lane's box of the next of them: looked up a tile ahead

    // The next, if there is one.
    __forceinline__ void ask() {
      if (left == 0) {
        const Sm90Item& t = boxes.smem.wait_item(count + 1);
        if (t.num_tiles == 0) return;
        ++count;
        left = t.num_tiles;
        find_next();
      }
      const Sm90Item& t = boxes.smem.item(count % kSm90ItemSlots);
      boxes.template load_tile<is_v>(boxes.smem.template kv_stage<is_v>(ring.stage), ring.parity,
                                     boxes.template box_row<is_v>(), next, t.kv_head);
      ring.advance();
      --left;
      if (left > 0) find_next();
    }
    __forceinline__ void find_next() {
      const Sm90Item& t = boxes.smem.item(count % kSm90ItemSlots);
      next = boxes.find(t, left - 1, boxes.template box_row<is_v>());
    }
  };

  __forceinline__ void run(int warp) const {
    if (warp == 0) run_as<Role::keys>();
    if (warp == 1) run_as<Role::values>();
    if (warp == 2) run_as<Role::queries>();
    if (warp == 3) run_as<Role::items>();
  }

 private:
  enum class Role { keys, values, queries, items };

  // A loop for each role: one for all keeps the state of all, for which there are no registers.
  template <Role role>
  __forceinline__ void run_as() const {
    const bool leader = tile::lane_index() == 0;
    const Sm90BoxProducer<c> boxes{params, smem};
    const Sm90Transposer<c> transposer{params, smem, static_cast<int>(role)};
    Tiles<role == Role::values> tiles{boxes};
    int index = first_item(params.attention);
    if (role == Role::items && leader) {
      for (int count = 0; count < kItemsAhead; ++count) {
        index = hand_out_item<c>(params, smem, index, count) + 1;
      }
    }
    if (role == Role::queries && leader) boxes.load_q(smem.wait_item(0), 0);
    if (role == Role::keys || role == Role::values) {
      for (int i = 0; i < (role == Role::keys ? kKeysAhead : kValuesAhead); ++i) tiles.ask();
    }
    typename Sm90Transposer<c>::VRing ring;
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int num_tiles = t.num_tiles;  // after the last one the item may be gone
      if (num_tiles == 0) return;
#pragma unroll 1
      for (int i = 0; i < num_tiles; ++i) {
        tile::sync_warp();
        transposer.transpose_tile(ring, i == 0 ? t.rows_of_last : c.tile_kv);
        ring.advance();
        if constexpr (role == Role::keys || role == Role::values) tiles.ask();
        if (role == Role::queries && leader && i == tile_of_next_q(num_tiles)) {
          const int next = tile::opaque(count) + 1;
          boxes.load_q(smem.wait_item(next), next);
        }
        if (role == Role::items && leader && i == 0) {
          index = hand_out_item<c>(params, smem, index, tile::opaque(count) + kItemsAhead) + 1;
        }
      }
    }
  }
};

}  // namespace quire::kernels
