// What may be among the k largest elements of a row, found in one pass: a sample of the row gives a
// bound that somewhat more than k elements are likely to reach, and what is below it is only
// compared with it. How many do reach it is known in the end.
#pragma once

#include "sampling/reached_key.h"
#include "sampling/token_list.h"
#include "tile/cp_async.h"
#include "tile/math.h"

namespace quire::kernels {

template <RowConfig c>
struct Candidates {
  using T = typename ClusterRow<c>::T;
  static constexpr bool kLogits = c.keys == RowKeys::weights;
  static constexpr bool kFloats = kLogits || c.keys == RowKeys::ordered;  // else probabilities
  // Keys below are no candidates: those of -inf as a logit, of zero probability.
  static constexpr u32 kLowest = kLogits ? ordered_key(0xff800000u) + 1 : 1;
  static constexpr int kElems = kCandidateElems;
  static constexpr int kLoads = kElems / c.vec_elems;
  static constexpr i32 kStep = c.threads * c.vec_elems;
  using Access = tile::Vec<T, c.vec_elems>;

  ClusterRow<c>& row;
  float below = 0.f;  // this thread's sum of weights below the bound, in units of that at the bound
  u32 sure = kLowest;  // the bound, which k elements must reach

  explicit Candidates(ClusterRow<c>& row) : row(row) {}

  u64* list() const { return row.search().list; }
  u32* bins() const { return reinterpret_cast<u32*>(list() + kMaxCandidates); }
  u32* count() const { return reinterpret_cast<u32*>(&row.memory.list_size); }
  KeyList keys(int size) const { return {list(), size, 0, bins(), row.memory.warp_sums}; }

  // With some room: different logits may weigh the same as the k-th.
  u32 bound() const {
    constexpr u32 kRoom = kLogits ? 1024 : 0;
    return sure > kLowest + kRoom ? sure - kRoom : kLowest;
  }
  // Whether what is below the bound is known to weigh less than the k-th.
  bool is_bound_sure() const {
    if constexpr (!kLogits) return true;
    const auto weight = [&](u32 key) {
      return weight_bits(tile::float_from_bits(bits_of_key(key)), row.weights);
    };
    const u32 least = weight(sure);
    return bound() == kLowest || least == 0 || weight(bound() - 1) < least;
  }

  static u32 key_of(float x) {
    const u32 bits = tile::float_bits(x);
    return kFloats ? ordered_key(bits) : probability_bits(bits);
  }

  // A thread's elements of one step, which lie far apart, since neighbours in the vocabulary are
  // alike.
  struct Step {
    Access accesses[kLoads];
    float operator[](int i) const {
      return tile::to_float(accesses[i / c.vec_elems].data[i % c.vec_elems]);
    }
  };
  Step load(i32 at, i32 span) const {
    const T nothing = tile::from_float<T>(kFloats ? tile::kNegInf : 0.f);
    Step x;
#pragma unroll
    for (int n = 0; n < kLoads; ++n) {
      const i32 i = row.begin + n * span + at;
      if (at < span && i < row.end) {
        x.accesses[n] = *reinterpret_cast<const Access*>(row.data + i);
      } else {
#pragma unroll
        for (int e = 0; e < c.vec_elems; ++e) x.accesses[n].data[e] = nothing;
      }
    }
    return x;
  }

  // From the largest elements of the threads, or of half of each where threads are too few.
  void find_bound(const Step& x, i32 k) {
    float most[2];
#pragma unroll
    for (int i = 0; i < kElems; ++i) {
      float& half = most[i / (kElems / 2)];
      half = i % (kElems / 2) == 0 ? x[i] : tile::max_f32(half, x[i]);
    }
    const auto rank = static_cast<u32>(sampled_rank(c, k, row.vocab));
    const bool are_few = rank * 4 > c.threads;
    u64* mine = list() + tile::thread_index();
    mine[0] = join_words(key_of(are_few ? most[0] : tile::max_f32(most[0], most[1])), 0);
    if (are_few) mine[c.threads] = join_words(key_of(most[1]), 0);
    const u32 of_block = reached_key<c.threads>(keys(are_few ? 2 * c.threads : c.threads),
                                                {rank, rank + rank / 32 + 4, kLowest});
    sure = static_cast<u32>(row.cluster_max(of_block));
  }

  template <bool sums>
  void add(const Step& x, i32 at, i32 span, float scale) {
    const float least = kFloats ? tile::float_from_bits(bits_of_key(bound())) : 0.f;
    u32 passing = 0;
#pragma unroll
    for (int i = 0; i < kElems; ++i) {
      // NaN and negative probabilities pass.
      const bool passes = kFloats ? !(x[i] < least) : tile::float_bits(x[i]) >= bound();
      passing |= passes ? 1u << i : 0;
    }
    if constexpr (sums) {
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < kElems; ++i) {
        const float weight = kLogits ? tile::exp2_approx((x[i] - least) * scale) : x[i];
        sum += (passing >> i & 1) == 0 ? weight : 0.f;
      }
      below += sum;
    }
    while (passing != 0) {
      float value = 0.f;
      int i = 0;
#pragma unroll
      for (int j = 0; j < kElems; ++j) {
        if ((passing >> j & 1) == 0) continue;
        value = x[j];
        i = j;
      }
      passing ^= 1u << i;
      const i32 index = row.begin + i / c.vec_elems * span + at + i % c.vec_elems;
      const u32 key = key_of(value);
      // Not of the row, or -0.
      if (at >= span || index >= row.end || key < bound()) continue;
      const u32 place = tile::atomic_add(count(), 1u);
      if (place < kMaxCandidates) list()[place] = list_entry(key, index);
    }
  }

  // The accesses of the next step come to the L2 cache: 9 % of the time of 512 rows (H100). There
  // are no registers to load them to, on sm_120a not even for this.
  static constexpr bool kPrefetches = tile::kArch < 1200;
  void prefetch(i32 at, i32 span) const {
#pragma unroll
    for (int n = 0; n < kLoads; ++n) {
      const i32 i = row.begin + n * span + at;
      if (at < span && i < row.end) tile::prefetch_to_l2(row.data + i);
    }
  }

  // The pass over this block's part.
  void gather(i32 k) { pass<false>(k, 0.f); }
  // The same, and what is below the bound is summed up; `scale`: of the weights of logits. A branch
  // in the pass would cost the other 1 to 4 % (H100).
  void gather_and_sum(i32 k, float scale) { pass<true>(k, scale); }

  template <bool sums>
  void pass(i32 k, float scale) {
    const i32 span = tile::ceil_div(row.end - row.begin, kLoads * 32) * 32;
    i32 first = 0;
    do {  // a block without elements meets the others too
      const i32 at = first + tile::thread_index() * c.vec_elems;
      const Step x = load(at, span);
      if constexpr (kPrefetches) prefetch(at + kStep, span);
      if (first == 0) find_bound(x, k);
      add<sums>(x, at, span, scale);
      first += kStep;
    } while (first < span);
  }

  // What the cluster knows of its candidates; the same in all threads of all blocks. row.largest is
  // found with it, unless there are too many.
  struct Summary {
    bool complete;
    int mine;    // lane: candidates of the block whose rank is the lane's index modulo the cluster
    int before;  // of the blocks of lower rank
    int total;
  };
  Summary summarise(i32 k) {
    tile::sync_diverged_block();
    const int size = tile::min_of(static_cast<int>(*count()), kMaxCandidates + 1);
    u32 largest = 0;
    int sure_ones = 0;
#pragma unroll 1
    for (int i = tile::thread_index(); i < tile::min_of(size, kMaxCandidates); i += c.threads) {
      const u32 key = entry_key(list()[i]);
      largest = tile::max_of(largest, key);
      sure_ones += key >= sure;
    }
    sure_ones = tile::warp::sum(sure_ones);
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
      largest = tile::max_of(largest, tile::warp::shuffle_xor(largest, m));
    }
    u64* scratch = row.memory.warp_sums;
    share_across_warps(join_words(largest, static_cast<u32>(sure_ones)), scratch, 0);
    sure_ones = 0;
#pragma unroll 4
    for (int w = 0; w < c.threads / 32; ++w) {
      largest = tile::max_of(largest, static_cast<u32>(scratch[w] >> 32));
      sure_ones += static_cast<int>(scratch[w]);
    }
    Summary all{false, size, 0, size};
    if constexpr (c.cluster > 1) {
      const u64 x = row.exchange(join_words(largest, static_cast<u32>(sure_ones << 16 | size)));
      largest = static_cast<u32>(x >> 32);
      sure_ones = static_cast<int>(x >> 16 & 0xffff);
      all.mine = all.total = static_cast<int>(x & 0xffff);
      const int rank = tile::lane_index() % c.cluster;
#pragma unroll
      for (int m = 1; m < c.cluster; m *= 2) {
        largest = tile::max_of(largest, tile::warp::shuffle_xor(largest, m));
        sure_ones += tile::warp::shuffle_xor(sure_ones, m);
        const int others = tile::warp::shuffle_xor(all.total, m);
        if ((rank & m) != 0) all.before += others;
        all.total += others;
      }
    }
    const bool has_all = all.total <= kMaxCandidates;
    all.complete = has_all && (sure_ones >= k || bound() == kLowest);
    row.largest = has_all ? largest : 0;
    return all;
  }

  // The key that the largest element below the bound may have; of logits that of its weight.
  u32 unlisted_key() const {
    if constexpr (!kLogits) return bound() - 1;
    return weight_bits(tile::float_from_bits(bits_of_key(bound() - 1)), row.weights);
  }

  // The mass of all that is below the bound, in the cluster's row whose largest key is known:
  // nearly, since it is a sum of floats.
  float unlisted_mass() const {
    auto* scratch = reinterpret_cast<float*>(row.memory.warp_sums);
    const float sum = row.cluster_sum(block_sum<c.threads>(below, scratch));
    float unit = mass_unit(row.largest_exponent());
    if constexpr (kLogits) {
      const float at_bound = tile::float_from_bits(bits_of_key(bound()));
      unit *= tile::exp2_approx((at_bound - row.weights.largest) * row.weights.scale);
    }
    return sum * unit * 0x1p39f;
  }

  // The other blocks' candidates behind those of the first.
  void collect(const Summary& all) {
    if constexpr (c.cluster > 1) {
      constexpr int kWarps = c.threads / 32;
      if (row.is_leader()) {
#pragma unroll 1
        for (int job = tile::warp_index(); job < 2 * c.cluster; job += kWarps) {
          const int rank = job % c.cluster;
          const int size = tile::warp::shuffle(all.mine, rank);
          const int before = tile::warp::shuffle(all.before, rank);
          if (rank == 0) continue;
          const u64* from = ClusterRow<c>::of_block(list(), rank);
#pragma unroll 1
          for (int i = job / c.cluster * 32 + tile::lane_index(); i < size; i += 64) {
            list()[before + i] = from[i];
          }
        }
      }
      row.sync_own();  // they have been read
    }
  }

  // Leaves out of the list's `size` entries what is surely not among the k largest; returns how
  // many there are then. Of numbers no more are left than the power of two above k.
  int tighten(int size, i32 k) {
    int enough = kWarpList;  // a sorted list has a power of two
    while (enough < k) enough *= 2;
    if (size <= enough) return size;
    const auto count = static_cast<u32>(k);
    sure = reached_key<c.threads>(keys(size), {count, static_cast<u32>(enough), bound()});
    if (!is_bound_sure()) return size;
    u64 least = join_words(bound(), 0);
    if constexpr (c.keys == RowKeys::ordered) {
      u64 mine = 0;  // reaching it, and above it
      for (int i = tile::thread_index(); i < size; i += c.threads) {
        const u32 key = entry_key(list()[i]);
        mine += join_words(key > sure, key >= sure);
      }
      const u64 sums = block_prefix_sum<c.threads>(mine, row.memory.warp_sums).total;
      if (static_cast<u32>(sums) > static_cast<u32>(enough)) {
        KeyList equals = keys(size);
        equals.upper = sure;
        const u32 needed = count - static_cast<u32>(sums >> 32);
        least += reached_key<c.threads>(equals, {needed, needed, 1});
      }
    }
    return keep_from(least, size);
  }

  // Leaves out what is below `least`.
  int keep_from(u64 least, int size) {
    constexpr int kMine = tile::ceil_div(kMaxCandidates, c.threads);
    u64 mine[kMine];
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      const int at = tile::thread_index() + i * c.threads;
      mine[i] = at < size ? list()[at] : 0;
    }
    tile::sync_diverged_block();
    if (tile::thread_index() == 0) *count() = 0;
    tile::sync_diverged_block();
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      if (mine[i] >= least && mine[i] != 0) list()[tile::atomic_add(count(), 1u)] = mine[i];
    }
    tile::sync_diverged_block();
    return static_cast<int>(*count());
  }
};

}  // namespace quire::kernels
