// Plans batch attention on the device: the work list that src/plan/line_plan.cpp makes on the host,
// from the same functions (attention/line_plan.h).
//
// Grid:   one thread block: everything is sums over requests and workers, and one kernel is one
//         launch.
// Block:  threads of the config.
// Smem:   plan_smem_bytes(c): one sum a thread.
// Output: the plan of AttentionPlanParams. A request whose length is negative or more than its
//         pages hold has no items but a merge of -1 parts (where kernels merge themselves: an item
//         of -1 parts), and *first_bad names the first.
//         Where the room does not suffice, which takes page_indptr that go back and forth, that is
//         so for every request.
// Needs:  line.batch_size <= max_batch_size, qo_len * group_size rows in one tile.
#pragma once

#include "attention/attention_plan_types.h"
#include "tile/atomic.h"
#include "tile/math.h"

namespace quire::kernels {

// sums[i] = the shares before i; sums[count] = all of them.
template <AttentionPlanConfig c, class T, class Share>
inline void prefix_sums(T* sums, int count, u8* smem, const Share& share) {
  T* total = reinterpret_cast<T*>(smem);  // of each thread's shares and those of threads before it
  const int thread = tile::thread_index();
  const int chunk = tile::ceil_div(count, c.threads);
  const int begin = tile::min_of(thread * chunk, count);
  const int end = tile::min_of(begin + chunk, count);
  T mine{};
  for (int i = begin; i < end; ++i) mine = mine + share(i);
  total[thread] = mine;
  tile::sync_block();
  for (int distance = 1; distance < c.threads; distance *= 2) {
    const T below = thread >= distance ? total[thread - distance] : T{};
    tile::sync_block();
    total[thread] = below + total[thread];
    tile::sync_block();
  }
  T before = thread == 0 ? T{} : total[thread - 1];
  for (int i = begin; i < end; ++i) {
    sums[i] = before;
    before = before + share(i);
  }
  if (thread == c.threads - 1) sums[count] = total[thread];
  tile::sync_block();
}

// join(x, y) of all threads' x.
template <AttentionPlanConfig c, class Join>
inline i64 block_joined(i64 x, u8* smem, const Join& join) {
  i64* joined = reinterpret_cast<i64*>(smem);
  const int thread = tile::thread_index();
  joined[thread] = x;
  tile::sync_block();
  for (int half = c.threads / 2; half > 0; half /= 2) {
    if (thread < half) joined[thread] = join(joined[thread], joined[thread + half]);
    tile::sync_block();
  }
  const i64 result = joined[0];
  tile::sync_block();
  return result;
}

template <AttentionPlanConfig c>
struct DevicePlan {
  const AttentionPlanParams& p;
  u8* smem;

  LineTile tile_of(int request) const { return line_tile(p.line, p.qo_len, p.kv_lens[request]); }
  const LineSums& head() const { return p.sums[p.line.batch_size]; }

  template <class Work>
  static void for_each(i64 count, const Work& work) {
    for (i64 i = tile::thread_index(); i < count; i += c.threads) work(static_cast<int>(i));
  }

  // Copies lengths and where pages begin; -1 for what does not fit.
  void read_lengths() const {
    if (tile::thread_index() == 0) *p.first_bad = kNoBadRequest;
    tile::sync_block();
    for_each(p.max_batch_size + 1, [&](int r) {
      const int batch = p.line.batch_size;
      p.qo_indptr[r] = tile::min_of(r, batch) * p.qo_len;
      p.kv_indptr[r] = 0;
      if (r < p.max_batch_size) p.kv_lens[r] = 0;
      if (r >= batch) return;
      const int begin = p.page_indptr ? p.page_indptr[r] : r * p.max_pages;
      const int end = p.page_indptr ? p.page_indptr[r + 1] : begin + p.max_pages;
      const int kv_len = p.seq_lens[r];
      if (begin >= 0 && begin <= end && end <= p.num_indices && kv_len >= 0 &&
          kv_len <= static_cast<i64>(end - begin) * p.page_size) {
        p.kv_indptr[r] = begin;
        p.kv_lens[r] = kv_len;
      } else {
        p.kv_lens[r] = -1;
        tile::atomic_min(p.first_bad, r);
      }
    });
    tile::sync_block();
  }

  void sum_requests() const {
    prefix_sums<c>(p.sums, p.line.batch_size, smem,
                   [&](int r) { return line_share(p.line, tile_of(r)); });
  }

  // Boundaries that do not cut; returns what that costs.
  i64 place_starts() const {
    const i64 total = head().cost * p.line.num_kv_heads;
    const int active = line_workers(p.line.num_workers, p.line.num_kv_heads);
    const auto start = [&](int w) {
      const LinePlace place = line_place(p.line, p.sums, line_boundary(total, active, w));
      return line_start(p.line, p.sums, tile_of(place.request), place);
    };
    i64 longest = 0;
    for_each(p.line.num_workers + 1, [&](int w) {
      const LineStart mine = total == 0 ? LineStart{} : start(w);
      p.worker_indptr[w] = mine.item;
      if (w == 0) return;
      const i64 load = total == 0 ? 0 : mine.position - start(w - 1).position;
      p.loads[w - 1] = load;
      longest = tile::max_of(longest, load);
    });
    longest = block_joined<c>(longest, smem, [](i64 a, i64 b) { return tile::max_of(a, b); });
    i64 missing = 0;
    const int num_busiest = line_memory_workers(p.line, head());
    for_each(p.line.num_workers, [&](int w) {
      if (is_among_busiest(w, num_busiest)) missing += longest - p.loads[w];
    });
    missing = block_joined<c>(missing, smem, [](i64 a, i64 b) { return a + b; });
    return line_uncut_cost(p.line, head(), missing);
  }

  bool is_among_busiest(int worker, int num_busiest) const {
    const i64 load = p.loads[worker];
    int busier = 0;
    for (int w = 0; w < p.line.num_workers; ++w) {
      busier += p.loads[w] > load || (p.loads[w] == load && w < worker);
    }
    return busier < num_busiest;
  }

  void place_cuts() const {
    const int workers = p.line.num_workers;
    const i64 total = head().cost * p.line.num_kv_heads;
    const int active = line_cut_workers(p.line, head());
    for_each(workers + 1, [&](int w) {
      const LinePlace place = line_place(p.line, p.sums, line_boundary(total, active, w));
      p.cuts[w] = line_cut(p.line, p.sums, tile_of(place.request), place);
    });
    tile::sync_block();
    const int rows = p.qo_len * p.line.group_size;
    prefix_sums<c>(p.cut_sums, workers, smem, [&](int w) {
      return line_cut_share(p.cuts[w], line_cuts_first(p.cuts, w), rows);
    });
    for_each(workers + 1, [&](int w) {
      p.worker_indptr[w] = p.cuts[w].tile + p.cut_sums[tile::min_of(w + 1, workers)].cuts;
      if (p.cuts[w].step > 0 && line_cuts_first(p.cuts, w)) {
        p.first_cuts[p.cut_sums[w].tiles] = w;
      }
    });
    tile::sync_block();
  }

  int cut_merges(const LineCutSums& cuts) const { return p.line.merges_itself ? 0 : cuts.tiles; }

  bool fits(const LineCutSums& cuts) const {
    const i64 heads = p.line.num_kv_heads;
    return head().parts * heads + cuts.cuts <= p.max_items &&
           head().merges * heads + cut_merges(cuts) <= p.max_merges &&
           head().partial_rows * heads + cuts.partial_rows <= p.max_partial_rows;
  }

  void write_parts() const {
    const int parts = head().parts;
    for_each(static_cast<i64>(parts) * p.line.num_kv_heads, [&](int i) {
      const int kv_head = i / parts;
      const int request = line_request(p.sums, p.line.batch_size, &LineSums::parts, i % parts);
      const LineSums& before = p.sums[request];
      p.items[i] = line_item(p.line, tile_of(request), request, kv_head, i % parts - before.parts,
                             kv_head * head().partial_rows + before.partial_rows);
    });
  }

  // Tiles that do not have one part before any cut.
  void write_merges() const {
    const int batch = p.line.batch_size;
    for_each(static_cast<i64>(batch) * p.line.num_kv_heads, [&](int i) {
      const int kv_head = i / batch, request = i % batch;
      const LineTile t = tile_of(request);
      if (t.parts == 1 || p.line.merges_itself) return;
      const LineSums& before = p.sums[request];
      p.merges[kv_head * head().merges + before.merges] =
          line_merge(t, request, kv_head, kv_head * head().partial_rows + before.partial_rows);
    });
  }

  // The partial row of what begins at the cut of boundary w.
  int row_after_cut(int w, int rows) const {
    return p.cut_sums[w].partial_rows + (line_cuts_first(p.cuts, w) ? rows : 0);
  }

  int worker_of(int item) const {  // the last one that begins at or before it
    int low = 0, high = p.line.num_workers;
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      if (p.worker_indptr[middle] <= item) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }

  void write_cut_tiles() const {
    const int tiles = head().tiles;
    const LineCutSums all = p.cut_sums[p.line.num_workers];
    // Parts of cut tile i, and the first partial row.
    const auto num_parts = [&](int i) {
      const int end = i + 1 < all.tiles ? p.cut_sums[p.first_cuts[i + 1]].cuts : all.cuts;
      return end - p.cut_sums[p.first_cuts[i]].cuts + 1;
    };
    const auto first_row = [&](int i) { return p.cut_sums[p.first_cuts[i]].partial_rows; };
    for_each(p.worker_indptr[p.line.num_workers], [&](int i) {
      const int w = worker_of(i);
      const LineCut from = p.cuts[w], to = p.cuts[w + 1];
      const int index = from.tile + i - p.worker_indptr[w];
      const int request = line_request(p.sums, p.line.batch_size, &LineSums::tiles, index % tiles);
      const LineTile t = tile_of(request);
      WorkItem item = line_whole_item(request, index / tiles, t.kv_len);
      const bool cut_after = index == to.tile && to.step > 0;
      const bool cut_before = index == from.tile && from.step > 0;
      if (cut_after) {
        item.kv_end = (t.first_step + to.step) * p.line.tile_kv;
        item.partial_row = row_after_cut(w + 1, t.rows) - t.rows;
      }
      if (cut_before) {
        item.kv_begin = (t.first_step + from.step) * p.line.tile_kv;
        item.partial_row = row_after_cut(w, t.rows);
      }
      if (cut_before || cut_after) {
        const int cut_tile = p.cut_sums[cut_before ? w + 1 : w + 2].tiles - 1;
        item.first_partial_row = first_row(cut_tile);
        item.num_parts = num_parts(cut_tile);
      }
      p.items[i] = item;
    });
    for_each(cut_merges(all), [&](int i) {
      const LineCut& cut = p.cuts[p.first_cuts[i]];
      const int rows = p.qo_len * p.line.group_size;
      p.merges[head().merges * p.line.num_kv_heads + i] = {.request = cut.request,
                                                           .kv_head = cut.tile / tiles,
                                                           .q_begin = 0,
                                                           .num_rows = rows,
                                                           .partial_row = first_row(i),
                                                           .num_parts = num_parts(i),
                                                           .part_stride = rows};
    });
  }

  void refuse_all() const {
    const int batch = p.line.batch_size, workers = p.line.num_workers;
    const bool by_items = p.line.merges_itself;
    const i64 count = tile::min_of<i64>(static_cast<i64>(batch) * p.line.num_kv_heads,
                                        by_items ? p.max_items : p.max_merges);
    for_each(workers + 1, [&](int w) {
      p.worker_indptr[w] = by_items ? static_cast<int>(count * w / workers) : 0;
    });
    for_each(count, [&](int i) {
      const LineTile t = line_tile(p.line, p.qo_len, -1);
      if (by_items) {
        p.items[i] = line_whole_item(i % batch, i / batch, t.kv_len);
      } else {
        p.merges[i] = line_merge(t, i % batch, i / batch, 0);
      }
      p.kv_lens[i % batch] = -1;
    });
    if (tile::thread_index() != 0) return;
    *p.merge_count = by_items ? 0 : static_cast<int>(count);
    if (batch > 0) *p.first_bad = 0;
  }

  // The parts of a tile are counted as they arrive.
  void clear_counters(const LineCutSums& cuts) const {
    const i64 rows = static_cast<i64>(head().partial_rows) * p.line.num_kv_heads;
    const i64 used = (rows + cuts.partial_rows + 1) / 2;
    if (p.line.merges_itself) for_each(used, [&](int i) { p.counters[i] = 0; });
  }
};

template <AttentionPlanConfig c>
inline void attention_plan(const AttentionPlanParams& p) {
  const DevicePlan<c> plan{p, tile::shared_memory()};
  plan.read_lengths();
  plan.sum_requests();
  const i64 uncut_cost = plan.place_starts();
  const bool cut = p.line.cuts == LineCuts::anywhere && plan.head().tiles > 0 &&
                   line_cut_pays(p.line, plan.head(), uncut_cost);
  LineCutSums cuts{};
  if (cut) {
    plan.place_cuts();
    cuts = p.cut_sums[p.line.num_workers];
  }
  if (!plan.fits(cuts)) {
    tile::sync_block();  // everybody has read kv_lens
    plan.refuse_all();
    return;
  }
  plan.clear_counters(cuts);
  plan.write_merges();
  if (cut) {
    plan.write_cut_tiles();
  } else {
    plan.write_parts();
  }
  if (tile::thread_index() == 0) {
    *p.merge_count = plan.head().merges * p.line.num_kv_heads + plan.cut_merges(cuts);
  }
}

}  // namespace quire::kernels
