// Planning a batch in which every request is at most one tile of packed rows, as in decoding. Host
// and device compute the same lists by these functions.
//
// The tiles of all requests, KV head by KV head, form a line, each as long as its cost in tokens;
// equal lengths of the line go to the workers. A boundary between two workers cuts the tile it
// falls into (LineCuts::anywhere), or moves up to the start of the next part or tile. So every
// worker gets an even share, no more tiles are split than there are workers, and everything follows
// from prefix sums.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

// Where KV may be split: nowhere, at multiples of fixed_split_size, after any step of tile_kv.
enum class LineCuts : u8 { nowhere, fixed, anywhere };

struct LineProblem {
  i32 batch_size;
  i32 group_size, num_kv_heads;
  i32 num_workers;
  i32 memory_workers;  // so many, of all, keep the memory busy; all: it never is
  i32 cut_cost;        // what a plan with cuts takes longer, in tokens, beside its partial results
  i32 tile_kv;
  i32 window_left;       // hint
  i32 fixed_split_size;  // of LineCuts::fixed
  LineCuts cuts;
  // The kernel joins the parts of split tiles and writes rows without KV: these are items too, and
  // there are no MergeItems.
  bool merges_itself;
};

// A request's share of the line, and the sums of these over the requests before one.
struct LineSums {
  i64 cost;          // tokens, of one KV head
  i32 tiles;         // that have items: with KV, or any where kernels merge themselves
  i32 parts;         // of these tiles; where cuts are anywhere: before any cut
  i32 partial_rows;  // of tiles with several parts
  i32 merges;        // MergeItems: tiles that do not have one part
  i64 rows;          // of tiles that have items
  i64 longest;       // not a sum: the largest cost
};
constexpr LineSums operator+(const LineSums& a, const LineSums& b) {
  return {a.cost + b.cost,
          a.tiles + b.tiles,
          a.parts + b.parts,
          a.partial_rows + b.partial_rows,
          a.merges + b.merges,
          a.rows + b.rows,
          a.longest < b.longest ? b.longest : a.longest};
}

// One request's tile.
struct LineTile {
  i32 rows = 0;           // packed
  i32 kv_len = 0;         // -1: does not fit, its rows become NaN
  i32 first_step = 0;     // of the visible ones
  i32 steps = 0;          // visible, of tile_kv tokens
  i32 parts = 0;          // before cuts anywhere
  i32 first_visible = 0;  // part
  i32 hidden_steps = 0;   // of that part
};

// Costs are in tokens: the time a worker takes for one K and V token of a full tile. An item's
// start and end take half a step; where the warps of a block share the tokens, and join what they
// have at the end, about 0.9 us on an H100.
constexpr i32 item_start_cost(i32 tile_kv, bool merges_itself) {
  return merges_itself ? 40 : (tile_kv + 1) / 2;
}
constexpr i32 line_item_cost(const LineProblem& p) {
  return item_start_cost(p.tile_kv, p.merges_itself);
}
// What merging costs beside the partial results: a second launch takes about as long as two steps.
// A kernel that merges itself needs a fence, an atomic and the parts of others, 1.8 us on an H100.
constexpr i32 merge_start_cost(i32 tile_kv, bool merges_itself) {
  return merges_itself ? 80 : 2 * tile_kv;
}
// A worker gets at least so many steps where tiles are cut.
constexpr i32 kSmallestLineSteps = 2;

// Of numbers up to 2^31 - 1.
constexpr i32 line_ceil_div(i32 a, i32 b) {
  return static_cast<i32>((static_cast<u32>(a) + static_cast<u32>(b) - 1) / static_cast<u32>(b));
}

constexpr LineTile line_tile(const LineProblem& p, i32 qo_len, i32 kv_len) {
  LineTile t;
  t.rows = qo_len * p.group_size;
  t.kv_len = kv_len;
  if (t.rows == 0) return t;
  if (kv_len <= 0) {
    t.parts = p.merges_itself ? 1 : 0;
    return t;
  }
  // Row i sees tokens up to kv_len - qo_len + i under the causal mask.
  const i64 first = static_cast<i64>(kv_len) - qo_len;
  const i64 begin = p.window_left < 0 || first <= p.window_left ? 0 : first - p.window_left;
  // At least the last row sees all tokens.
  t.first_step = static_cast<i32>(begin) / p.tile_kv;
  t.steps = line_ceil_div(kv_len, p.tile_kv) - t.first_step;
  t.parts = 1;
  if (p.cuts != LineCuts::fixed) return t;
  t.parts = line_ceil_div(kv_len, p.fixed_split_size);
  t.first_visible = static_cast<i32>(begin) / p.fixed_split_size;
  t.hidden_steps = (static_cast<i32>(begin) - t.first_visible * p.fixed_split_size) / p.tile_kv;
  t.steps = (t.parts - 1 - t.first_visible) * line_ceil_div(p.fixed_split_size, p.tile_kv) +
            line_ceil_div(kv_len - (t.parts - 1) * p.fixed_split_size, p.tile_kv) - t.hidden_steps;
  return t;
}

// Beside its steps. A partial row of floats is as many bytes as one 16-bit K and V token.
constexpr i64 line_part_cost(const LineProblem& p, const LineTile& t) {
  return line_item_cost(p) + (t.parts > 1 ? t.rows : 0);
}
constexpr i64 line_cost(const LineProblem& p, const LineTile& t) {
  return static_cast<i64>(t.steps) * p.tile_kv + t.parts * line_part_cost(p, t);
}

constexpr LineSums line_share(const LineProblem& p, const LineTile& t) {
  if (t.rows == 0) return {};
  const bool has_items = t.parts > 0;
  return {.cost = line_cost(p, t),
          .tiles = has_items ? 1 : 0,
          .parts = t.parts,
          .partial_rows = t.parts > 1 ? static_cast<i32>(static_cast<i64>(t.parts) * t.rows) : 0,
          .merges = t.parts == 1 || p.merges_itself ? 0 : 1,
          .rows = has_items ? t.rows : 0,
          .longest = line_cost(p, t)};
}

// Where part i of a tile begins, from the tile's start.
constexpr i64 line_part_begin(const LineProblem& p, const LineTile& t, i32 i) {
  const i64 before = i * line_part_cost(p, t);
  if (i <= t.first_visible) return before;
  const i64 steps =
      static_cast<i64>(i - t.first_visible) * line_ceil_div(p.fixed_split_size, p.tile_kv) -
      t.hidden_steps;
  return before + steps * p.tile_kv;
}

// The first part that begins at or after x, 0 <= x; t.parts when there is none.
constexpr i32 line_part_from(const LineProblem& p, const LineTile& t, i64 x) {
  i32 low = 0, high = t.parts;
  while (low < high) {
    const i32 middle = low + (high - low) / 2;
    if (line_part_begin(p, t, middle) < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The request whose share holds `at`: the last one with sums[r].*field <= at.
template <class T>
constexpr i32 line_request(const LineSums* sums, i32 batch_size, T LineSums::* field, T at) {
  i32 low = 0, high = batch_size;  // sums[low] <= at < sums[high]
  while (high - low > 1) {
    const i32 middle = low + (high - low) / 2;
    if (sums[middle].*field <= at) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Of so many workers, those that share the line: as many for each head, when that leaves few idle.
// Then the parts of one request's tokens that belong to different heads are read at the same time:
// they are neighbours in memory, and its rows are opened once.
constexpr i32 line_workers(i32 workers, i32 num_kv_heads) {
  const i32 rest = workers % num_kv_heads;
  return 16 * rest <= workers ? workers - rest : workers;
}

// Workers that make the line faster: a tile's parts, which one block reads in the end, grow with
// their number. Measured, w of them take the time of total / w tokens, read as fast as one can that
// has the memory for itself, and of 2.1 w; but the loads of 16 parts are under way together, so
// that the longest tile may have as many.
constexpr i32 line_worthwhile_workers(const LineProblem& p, i64 total_cost, i64 longest) {
  constexpr i32 kPartCost = 21, kFewParts = 16;
  const i64 tenths = 10 * total_cost * p.memory_workers;
  i32 low = 1, high = p.num_workers;  // the largest w with 2.1 w^2 <= tokens
  while (low < high) {
    const i32 middle = low + (high - low + 1) / 2;
    if (static_cast<i64>(kPartCost) * p.num_workers * middle * middle <= tenths) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const i64 few = kFewParts * total_cost / longest;
  return low >= few ? low : few < p.num_workers ? static_cast<i32>(few) : p.num_workers;
}

// Workers that get something where tiles are cut: not more than leaves each a few steps, and than
// are worth their parts. Where all tiles are equally long, so many that none has parts of two
// tiles, unless that takes longer than to merge a second time.
constexpr i32 line_cut_workers(const LineProblem& p, const LineSums& head) {
  const i64 total = head.cost * p.num_kv_heads;
  const i64 tiles = static_cast<i64>(head.tiles) * p.num_kv_heads;
  const i64 enough = total / (static_cast<i64>(kSmallestLineSteps) * p.tile_kv);
  const i32 worthwhile = p.merges_itself && head.longest > 0
                             ? line_worthwhile_workers(p, total, head.longest)
                             : p.num_workers;
  const i32 useful = enough < 1 ? 1 : enough < worthwhile ? static_cast<i32>(enough) : worthwhile;
  const i32 most = line_workers(useful, p.num_kv_heads);
  if (head.longest * head.tiles != head.cost || tiles > most) return most;
  const i32 even = static_cast<i32>(most - most % tiles);
  const i64 slower = total / even - total / most;
  return slower <= merge_start_cost(p.tile_kv, p.merges_itself) ? even : most;
}

// Where on the line worker w begins.
constexpr i64 line_boundary(i64 total_cost, i32 active_workers, i32 w) {
  if (w >= active_workers) return total_cost;
  return total_cost / active_workers * w + total_cost % active_workers * w / active_workers;
}

// A place on the line.
struct LinePlace {
  i32 kv_head, request;
  i64 offset;  // from the tile's start
};
constexpr LinePlace line_place(const LineProblem& p, const LineSums* sums, i64 position) {
  const i64 head_cost = sums[p.batch_size].cost;
  const i32 head = static_cast<i32>(position / head_cost);
  const i64 rest = position - head * head_cost;
  const i32 request = line_request(sums, p.batch_size, &LineSums::cost, rest);
  return {head, request, rest - sums[request].cost};
}

// A boundary that does not cut: the first item of the worker, and how far the line got.
struct LineStart {
  i32 item;
  i64 position;
};
constexpr LineStart line_start(const LineProblem& p, const LineSums* sums, const LineTile& t,
                               LinePlace place) {
  const i32 part = line_part_from(p, t, place.offset);
  const LineSums& before = sums[place.request];
  const LineSums& head = sums[p.batch_size];
  return {place.kv_head * head.parts + before.parts + part,
          place.kv_head * head.cost + before.cost +
              (part == t.parts ? line_cost(p, t) : line_part_begin(p, t, part))};
}

// A boundary that cuts: the tile it falls into, counted over all heads, and the step. 0: between
// this tile and the one before.
struct LineCut {
  i32 tile;
  i32 request;
  i32 step;  // of the visible ones
};
constexpr LineCut line_cut(const LineProblem& p, const LineSums* sums, const LineTile& t,
                           LinePlace place) {
  // The nearest one, an item's start being half a step; but a first step is not cut off alone.
  const i64 nearest = place.offset / p.tile_kv;
  const i32 step = nearest < t.steps ? static_cast<i32>(nearest) : t.steps - 1;
  return {place.kv_head * sums[p.batch_size].tiles + sums[place.request].tiles, place.request,
          step < kSmallestLineSteps ? 0 : step};
}

// Of few tiles a worker. Of many a cut is cheap, and it keeps the heads of the same tokens
// together.
constexpr i32 line_memory_workers(const LineProblem& p, const LineSums& head) {
  const i64 tiles = static_cast<i64>(head.tiles) * p.num_kv_heads;
  return tiles > 2 * static_cast<i64>(p.num_workers) ? p.num_workers : p.memory_workers;
}

// What a plan without cuts takes, as the load of a worker of one in which all have the same.
// Workers share the memory, so that those with more tokens than others catch up while enough of
// them are left to keep it busy: it is as if the line_memory_workers busiest had all the longest
// load. missing: the sum of what they have less than that.
constexpr i64 line_uncut_cost(const LineProblem& p, const LineSums& head, i64 missing) {
  return (head.cost * p.num_kv_heads + missing) / p.num_workers;
}

// Whether cutting is worth its partial results and their merge: 3 % at least, 1 % where the
// estimate knows of the memory.
constexpr bool line_cut_pays(const LineProblem& p, const LineSums& head, i64 uncut_cost) {
  const i64 total = head.cost * p.num_kv_heads;
  const i32 workers = line_cut_workers(p, head), busy = line_memory_workers(p, head);
  // Workers fewer than keep the memory busy read as fast as they can.
  const i64 share =
      total * (workers < busy ? busy : workers) / (static_cast<i64>(workers) * p.num_workers);
  const i64 rows = head.tiles == 0 ? 0 : head.rows / head.tiles;
  const i64 with_cuts = share + p.cut_cost + p.tile_kv + 2 * rows;
  const i64 percent = busy < p.num_workers ? 99 : 97;
  return 100 * with_cuts < percent * uncut_cost;
}

// All of a tile. -1 parts: of a length that does not fit, its rows become NaN.
constexpr WorkItem line_whole_item(i32 request, i32 kv_head, i32 kv_len) {
  return {.request = request,
          .kv_head = kv_head,
          .q_begin = 0,
          .kv_begin = 0,
          .kv_end = kv_len < 0 ? 0 : kv_len,
          .partial_row = -1,
          .first_partial_row = -1,
          .num_parts = kv_len < 0 ? -1 : 1};
}

// Part `index` of a tile, of a plan without cuts. partial_row: the tile's first.
constexpr WorkItem line_item(const LineProblem& p, const LineTile& t, i32 request, i32 kv_head,
                             i32 index, i32 partial_row) {
  WorkItem item = line_whole_item(request, kv_head, t.kv_len);
  if (t.parts == 1) return item;
  item.kv_begin = index * p.fixed_split_size;
  if (index + 1 < t.parts) item.kv_end = item.kv_begin + p.fixed_split_size;
  item.partial_row = partial_row + index * t.rows;
  item.first_partial_row = partial_row;
  item.num_parts = t.parts;
  return item;
}

// The merge of a tile that does not have one part.
constexpr MergeItem line_merge(const LineTile& t, i32 request, i32 kv_head, i32 partial_row) {
  return {.request = request,
          .kv_head = kv_head,
          .q_begin = 0,
          .num_rows = t.rows,
          .partial_row = t.parts == 0 ? 0 : partial_row,
          .num_parts = t.kv_len < 0 ? -1 : t.parts,
          .part_stride = t.rows};
}

// What the boundaries up to one add to the list: sums over them, itself included.
struct LineCutSums {
  i32 cuts;
  i32 tiles;  // that are cut
  i32 partial_rows;
};
constexpr LineCutSums operator+(const LineCutSums& a, const LineCutSums& b) {
  return {a.cuts + b.cuts, a.tiles + b.tiles, a.partial_rows + b.partial_rows};
}
// No boundary before w cuts the same tile.
constexpr bool line_cuts_first(const LineCut* cuts, i32 w) {
  return w == 0 || cuts[w - 1].step == 0 || cuts[w - 1].tile != cuts[w].tile;
}
constexpr LineCutSums line_cut_share(const LineCut& cut, bool first, i32 rows) {
  if (cut.step == 0) return {};
  return {1, first ? 1 : 0, first ? 2 * rows : rows};
}

}  // namespace quire::kernels
