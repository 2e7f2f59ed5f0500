// One row of the vocabulary, shared out among the threads of a cluster of blocks (or of one block),
// and what they exchange. A block keeps its part of the row in shared memory, as keys (RowKeys), so
// that global memory is read once; rows too long for that are read again by every pass.
#pragma once

#include "sampling/block_reduce.h"
#include "sampling/row_reader.h"
#include "sampling/row_types.h"
#include "tile/atomic.h"
#include "tile/cluster.h"

namespace quire::kernels {

// Sums of 64 bits in two words: shared memory adds 32 bits natively. Order does not matter.
struct Histogram {
  u32 low[kBins];
  u32 high[kBins];

  void add(u32 bin, u64 x) {
    const u32 low_part = static_cast<u32>(x);
    const u32 old = tile::atomic_add(&low[bin], low_part);
    const u32 high_part = static_cast<u32>(x >> 32) + (old + low_part < old ? 1 : 0);
    if (high_part != 0) tile::atomic_add(&high[bin], high_part);
  }
  void add(u32 bin, u32 count) { tile::atomic_add(&low[bin], count); }
  u64 sum(int bin) const { return join_words(high[bin], low[bin]); }
};

// A block's shared memory, before its part of the row.
struct alignas(16) RowMemory {
  u64 warp_sums[32];
  u64 exchange[2];  // what blocks tell each other, in turn
  u64 found[4];     // where a search ended
  u64 place;        // where a draw ended, by the thread that knows
  u64 all_mass;     // of the whole row, where a filter counts it
  u32 list_size;
  i32 listed;  // top-k, if a list of candidates is of that alone
};
static_assert(sizeof(RowMemory) == kRowHeaderBytes);
// Behind it, in kernels that search.
union SearchMemory {
  Histogram histogram;
  u64 list[kListCapacity];
};
static_assert(sizeof(SearchMemory) == kSearchBytes);

struct ClusterSum {
  u64 before;  // over the blocks of lower rank
  u64 total;
};

template <RowConfig c>
struct ClusterRow {
  using T = tile::storage_t<c.dtype>;
  // Elements an access of rows that every pass reads again: eight logits at a time, each weighed
  // in every pass, need more registers than there are.
  static constexpr int kReadAgain = tile::min_of(c.vec_elems, 4);

  RowMemory& memory;
  u32* keys;                      // [part] in shared memory
  const T* data;                  // the row
  const T* subtrahend = nullptr;  // of residuals; null: zeros
  i32 vocab;
  i32 begin, end;  // this block's part
  int turn = 0;
  u32 largest = 0;        // key of the whole row; NaN and what is no probability come out on top
  WeightScale weights{};  // of logits

  // The row of `vocab` elements from number `first`. The kernel may use `own_bytes` of shared
  // memory behind the header; a multiple of 16.
  ClusterRow(const void* rows, i64 first, i32 vocab, i32 own_bytes = 0)
      : memory(*reinterpret_cast<RowMemory*>(tile::shared_memory())),
        keys(reinterpret_cast<u32*>(tile::shared_memory() + kRowHeaderBytes + own_bytes)),
        data(static_cast<const T*>(rows) + first),
        vocab(vocab) {
    const i32 part = c.cluster > 1 ? row_part(vocab, c.cluster) : vocab;
    begin = tile::min_of(rank() * part, vocab);
    end = tile::min_of(begin + part, vocab);
    if (tile::thread_index() == 0) memory.list_size = 0;
  }

  static void sync() {
    if constexpr (c.cluster > 1) {
      tile::cluster::sync();
    } else {
      tile::sync_diverged_block();
    }
  }
  // Behind it others' shared memory holds what they have written there themselves.
  static void sync_own() {
    if constexpr (c.cluster > 1) {
      tile::cluster::sync_own_shared();
    } else {
      tile::sync_diverged_block();
    }
  }
  template <class Shared>
  static Shared* of_block(Shared* shared, int rank) {
    if constexpr (c.cluster > 1) {
      return tile::cluster::shared_of(shared, rank);
    } else {
      return shared;
    }
  }
  SearchMemory& search() const {
    return *reinterpret_cast<SearchMemory*>(tile::shared_memory() + kRowHeaderBytes);
  }
  // Of this block; found anew each time, since registers are short.
  static int rank() { return c.cluster > 1 ? tile::opaque(tile::block_index()) % c.cluster : 0; }
  static bool is_leader() { return rank() == 0; }
  // A block must not end while others read its memory.
  static void finish() {
    if constexpr (c.cluster > 1) tile::cluster::sync_own_shared();
  }

  // Tells the other blocks this block's value, the same in all its threads; a lane gets that of the
  // block whose rank is the lane's index modulo the cluster. What the place held in the turn before
  // last has been read by then.
  u64 exchange(u64 mine) {
    turn ^= 1;
    if (tile::thread_index() == 0) memory.exchange[turn] = mine;
    sync_own();
    return *of_block(&memory.exchange[turn], tile::lane_index() % c.cluster);
  }
  ClusterSum cluster_sum(u64 mine) {
    if constexpr (c.cluster == 1) return {0, mine};
    const u64 x = exchange(mine);
    ClusterSum sum{tile::lane_index() % c.cluster < rank() ? x : 0, x};
#pragma unroll
    for (int m = c.cluster / 2; m > 0; m /= 2) {
      sum.before += warp_shuffle_xor(sum.before, m);
      sum.total += warp_shuffle_xor(sum.total, m);
    }
    return sum;
  }
  u64 cluster_max(u64 mine) {
    if constexpr (c.cluster == 1) return mine;
    u64 x = exchange(mine);
#pragma unroll
    for (int m = c.cluster / 2; m > 0; m /= 2) x = tile::max_of(x, warp_shuffle_xor(x, m));
    return x;
  }
  float cluster_sum(float mine) {
    if constexpr (c.cluster == 1) return mine;
    return tile::warp::sum<c.cluster>(
        tile::float_from_bits(static_cast<u32>(exchange(tile::float_bits(mine)))));
  }

  // Of element i, which is x.
  u32 key_of(i32 i, float x) const {
    if constexpr (c.keys == RowKeys::probabilities) return probability_bits(tile::float_bits(x));
    if constexpr (c.keys == RowKeys::weights) return weight_bits(x, weights);
    if constexpr (c.keys == RowKeys::ordered) return ordered_key(tile::float_bits(x));
    return residual_bits(x, subtrahend == nullptr ? 0.f : tile::to_float(subtrahend[i]));
  }

  // The first pass, over global memory: finds the largest element, and keeps this block's part. At
  // its end keys of weights are still the logits' bits: set_temperature() and weigh() come next.
  u32 read() {
    u32 mine = 0;
    for_each_access<c.vec_elems>(data, begin, end, tile::thread_index(), c.threads,
                                 [&](i32 at, const float(&values)[c.vec_elems]) {
                                   u32 words[c.vec_elems];
#pragma unroll
                                   for (int i = 0; i < c.vec_elems; ++i) {
                                     if constexpr (c.keys == RowKeys::weights) {
                                       words[i] = tile::float_bits(values[i]);
                                       mine = tile::max_of(mine, ordered_key(words[i]));
                                     } else {
                                       words[i] = key_of(at + i, values[i]);
                                       // Rows of numbers may end inside an access.
                                       if (c.keys == RowKeys::ordered && at + i >= end)
                                         words[i] = 0;
                                       mine = tile::max_of(mine, words[i]);
                                     }
                                   }
                                   if constexpr (c.held) put_words(at, words);
                                 });
    const u64 of_block = block_max<c.threads>(static_cast<u64>(mine), memory.warp_sums);
    largest = static_cast<u32>(cluster_max(of_block));
    return largest;
  }
  // From here on keys are those of weights, the largest of which is 1; those that are held are
  // still the logits' bits.
  void set_temperature(float temperature) {
    weights = {tile::float_from_bits(bits_of_key(largest)), weight_scale(temperature)};
    largest = 0x3f800000u;
  }
  // Logits that are held become weights; a thread changes what it has read itself.
  void weigh() {
    if constexpr (c.held) {
      change_words([&](u32 word) { return weight_bits(tile::float_from_bits(word), weights); });
      tile::sync_diverged_block();
    }
  }

  // Consecutive words in shared memory, as wide as it takes them.
  static constexpr int kWords = c.vec_elems < 4 ? c.vec_elems : 4;
  using Words = tile::Vec<u32, kWords>;
  Words* words_at(i32 i) const { return reinterpret_cast<Words*>(keys + (i - begin)); }
  void put_words(i32 at, const u32 (&words)[c.vec_elems]) {
#pragma unroll
    for (int v = 0; v < c.vec_elems; v += kWords) {
      Words four;
#pragma unroll
      for (int i = 0; i < kWords; ++i) four.data[i] = words[v + i];
      *words_at(at + v) = four;
    }
  }
  // Each word that this thread has put there, replaced by change(word).
  template <class Change>
  void change_words(Change&& change) {
    for (i32 at = begin + tile::thread_index() * c.vec_elems; at < end;
         at += c.threads * c.vec_elems) {
#pragma unroll
      for (int v = 0; v < c.vec_elems; v += kWords) {
        Words four = *words_at(at + v);
#pragma unroll
        for (int i = 0; i < kWords; ++i) four.data[i] = change(four.data[i]);
        *words_at(at + v) = four;
      }
    }
  }

  u32 key_at(i32 i) const {
    if constexpr (c.held) return keys[i - begin];
    return key_of(i, tile::to_float(data[i]));
  }
  // visit(index, key) for [first, last) of this block's part, shared among `num_readers` threads;
  // first is a multiple of 8.
  template <class Visit>
  void for_range(i32 first, i32 last, int reader, int num_readers, Visit&& visit) const {
    if constexpr (c.held) {
      constexpr int kVec = 4;
      for (i32 at = first + reader * kVec; at < last; at += num_readers * kVec) {
        const auto four = *reinterpret_cast<const tile::Vec<u32, kVec>*>(keys + (at - begin));
#pragma unroll
        for (int i = 0; i < kVec; ++i) {
          if (at + i < last) visit(at + i, four.data[i]);
        }
      }
    } else {
      constexpr int kLoads = c.keys == RowKeys::weights ? 1 : 2;
      for_each_element<kReadAgain, kLoads>(data, first, last, reader, num_readers,
                                           [&](i32 i, float x) {
                                             if (c.keys != RowKeys::ordered || i < last)
                                               visit(i, key_of(i, x));
                                           });
    }
  }
  template <class Visit>
  void for_each(Visit&& visit) const {
    for_range(begin, end, tile::thread_index(), c.threads, visit);
  }

  // visit(index, ordered key) of every logit, before they are weighed.
  template <class Visit>
  void for_each_logit(Visit&& visit) const {
    if constexpr (c.held) {
      for_each([&](i32 i, u32 bits) { visit(i, ordered_key(bits)); });
    } else {
      for_each_element<kReadAgain, 2>(
          data, begin, end, tile::thread_index(), c.threads,
          [&](i32 i, float x) { visit(i, ordered_key(tile::float_bits(x))); });
    }
  }

  i32 largest_exponent() const { return probability_exponent(largest); }
  u64 mass(u32 key) const { return token_mass(key, largest_exponent()); }
};

}  // namespace quire::kernels
