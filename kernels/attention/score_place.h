// Where in the scores of a tile a thread's own are: two rows, and the same tokens of both. What the
// softmax and the masks do is the same for either product.
#pragma once

#include "tile/warp.h"

namespace quire::kernels {

// S = Q K^T, by mma.m16n8k16 and wgmma: rows g and g + 8 of 16, g = lane / 4; tokens 2 t, 2 t + 1
// of every 8, t = lane % 4. As [8 tokens][2 * half + j], or flat.
struct RowMajorScores {
  static constexpr int kRowStep = 8;
  static int first_row() { return tile::lane_index() / 4; }
  static int first_token() { return tile::lane_index() % 4 * 2; }
  // The thread's k-th token, counted from its first.
  static constexpr int token(int k) { return k / 2 * 8 + k % 2; }
  // Tokens of a tile of which a thread has n.
  static constexpr int tile_tokens(int n) { return 4 * n; }
  // How many of the thread's tokens come before `token`, from its first: may be more than it has.
  static int count_below(int token) { return token / 8 * 2 + tile::min_of(token % 8, 2); }

  template <int n>
  static float& at(float (&score)[n][4], int k, int half) {
    return score[k / 2][2 * half + k % 2];
  }
  template <int n>
  static float& at(float (&score)[n], int k, int half) {
    static_assert(n % 4 == 0 && n <= 64, "columns_below() counts 32");
    return score[k / 2 * 4 + 2 * half + k % 2];
  }

  // Over the threads that share a row.
  static float max(float x) { return tile::warp::max<4>(x); }
  static float sum(float x) {
    x += tile::warp::shuffle_xor(x, 1);
    return x + tile::warp::shuffle_xor(x, 2);
  }
};

// S^T = K Q^T by mma.m16n8k16: rows 2 t and 2 t + 1 of 8; tokens g and g + 8 of every 16. As
// [16 tokens][2 * j + half].
struct TokenMajorScores {
  static constexpr int kRowStep = 1;
  static int first_row() { return tile::lane_index() % 4 * 2; }
  static int first_token() { return tile::lane_index() / 4; }
  static constexpr int token(int k) { return 8 * k; }
  static constexpr int tile_tokens(int n) { return 8 * n; }
  static int count_below(int token) { return (token + 7) / 8; }

  template <int n>
  static float& at(float (&score)[n][4], int k, int half) {
    return score[k / 2][2 * (k % 2) + half];
  }

  static float max(float x) {
#pragma unroll
    for (int m = 4; m < 32; m *= 2) x = tile::max_f32(x, tile::warp::shuffle_xor(x, m));
    return x;
  }
  static float sum(float x) {
#pragma unroll
    for (int m = 4; m < 32; m *= 2) x += tile::warp::shuffle_xor(x, m);
    return x;
  }
};

}  // namespace quire::kernels
