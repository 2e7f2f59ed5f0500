// Quantization to fp8 in tiles of a row, a part of a row, or several rows.
//
// Grid:   ceil(num_tiles / (threads / threads_per_tile)) blocks
// Block:  c.threads; threads_per_tile neighbours share a tile
// Smem:   64 floats
// Output: out and computed_scales
// Needs:  any GPU
#pragma once

#include "quantize/quantize_types.h"
#include "tile/group.h"
#include "tile/word.h"

namespace quire::kernels {

struct TilePlace {
  i64 down, across;  // tiles
};
// In 32 bits where they do: 64-bit divisions take longer than all else that a thread does.
inline TilePlace tile_place(i64 index, i32 tiles_across) {
  if (index >> 32 != 0) return {index / tiles_across, index % tiles_across};
  const u32 down = static_cast<u32>(index) / static_cast<u32>(tiles_across);
  return {down, static_cast<u32>(index) - down * static_cast<u32>(tiles_across)};
}

// The tile of a thread: its values, in registers or in memory, and where they go.
template <QuantizeConfig c>
class QuantizeTile {
  using T = tile::storage_t<c.dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  static constexpr int kVec = c.vec_elems;
  static constexpr bool kKept = c.vecs_per_thread > 0;

 public:
  QuantizeTile(const QuantizeParams& p, TilePlace place, int lane, bool live) : lane_(lane) {
    const i64 row = place.down * p.tile_rows, col = place.across * p.tile_cols;
    const int rows = c.one_row ? 1 : static_cast<int>(tile::min_of<i64>(p.tile_rows, p.rows - row));
    vecs_per_row_ = static_cast<int>(tile::min_of<i64>(p.tile_cols, p.cols - col)) / kVec;
    num_vecs_ = live ? rows * vecs_per_row_ : 0;
    input_ = static_cast<const T*>(p.input) + row * p.input_stride + col;
    out_ = static_cast<Out*>(p.out) + row * p.out_stride + col;
    input_stride_ = p.input_stride;
    out_stride_ = p.out_stride;
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < c.vecs_per_thread; ++i) {
        const int vec = lane_ + i * c.threads_per_tile;
        kept_[i] =
            load(vec < num_vecs_ ? vec : 0);  // once more the first, which changes no maximum
      }
    }
  }

  float amax() {
    tile::LargestOfWords<T> largest;
    if constexpr (kKept) {
#pragma unroll
      for (const Word& word : kept_) largest.template add<kVec>(word);
    } else {
      for_slots([&](int, int vec) { largest.template add<kVec>(load(vec)); });
    }
    return largest.value();
  }

  void write(float inverse) {
    for_slots([&](int i, int vec) {
      float x[kVec];
      tile::unpack_word<T>(x, kKept ? kept_[kKept ? i : 0] : load(vec));
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] *= inverse;
      const Place at = place(vec);
      tile::store<kVec>(out_ + at.row * out_stride_ + at.col, x);
    });
  }

 private:
  using Word = tile::word_t<kVec * sizeof(T)>;

  // Of an access, in the tile.
  struct Place {
    int row, col;
  };
  Place place(int vec) const {
    const int row = c.one_row ? 0 : vec / vecs_per_row_;
    return {row, (vec - row * vecs_per_row_) * kVec};
  }

  Word load(int vec) const {
    const Place at = place(vec);
    return tile::load_word<kVec>(input_ + at.row * input_stride_ + at.col);
  }

  // body(slot, access) of the accesses that are this thread's.
  template <class Body>
  void for_slots(Body&& body) {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < c.vecs_per_thread; ++i) {
        const int vec = lane_ + i * c.threads_per_tile;
        if (vec < num_vecs_) body(i, vec);
      }
    } else {
      for (int vec = lane_; vec < num_vecs_; vec += c.threads_per_tile) body(0, vec);
    }
  }

  const T* input_;
  Out* out_;
  i64 input_stride_, out_stride_;
  int lane_, num_vecs_, vecs_per_row_;
  Word kept_[kKept ? c.vecs_per_thread : 1];
};

template <QuantizeConfig c>
void quantize(const QuantizeParams& p) {
  constexpr int kTilesPerBlock = c.threads / c.threads_per_tile;
  const int lane = tile::thread_index() % c.threads_per_tile;
  const i64 index = static_cast<i64>(tile::block_index()) * kTilesPerBlock +
                    tile::thread_index() / c.threads_per_tile;
  const bool live = index < p.num_tiles;
  const TilePlace place = tile_place(live ? index : 0, p.tiles_across);
  QuantizeTile<c> values(p, place, lane, live);
  float scale = 1;
  if constexpr (c.scaling == Scaling::given) {
    scale = p.given_scale != nullptr ? *p.given_scale : p.scale_value;
  } else {
    tile::Group<c.threads_per_tile> group;
    scale = fp8_scale(group.max(values.amax()), c.out_dtype, p.power_of_two);
    if (live && lane == 0) {
      p.computed_scales[place.down * p.scale_row_stride + place.across * p.scale_col_stride] =
          scale;
    }
  }
  values.write(1.f / scale);
}

}  // namespace quire::kernels
