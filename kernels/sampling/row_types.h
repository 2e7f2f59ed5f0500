// What every kernel over rows of the vocabulary shares between host and device: how a row is read,
// what it is read as, and how it is shared out among the blocks of a cluster.
#pragma once

#include "sampling/token_mass.h"

namespace quire::kernels {

// What the elements of a row are turned into: 32 bits that order as the elements do.
enum class RowKeys : u8 {
  probabilities,  // probability_bits
  weights,        // probability_bits of exp((logit - largest) / temperature)
  ordered,        // ordered_key of any number
  residual,       // probability_bits of max(probability - subtrahend, 0)
};

constexpr const char* literal(RowKeys keys) {
  switch (keys) {
    case RowKeys::probabilities:
      return "RowKeys::probabilities";
    case RowKeys::weights:
      return "RowKeys::weights";
    case RowKeys::ordered:
      return "RowKeys::ordered";
    case RowKeys::residual:
      return "RowKeys::residual";
  }
  return "";
}

struct RowConfig {
  DType dtype = DType::f32;
  RowKeys keys = RowKeys::probabilities;
  i32 vec_elems = 1;  // elements a load; divides vocab and the row stride
  i32 threads = 128;  // a block; 128 to 1024, power of two
  i32 cluster = 1;    // blocks that share a row; power of two
  bool held = true;   // a block's part of the row stays in shared memory; else it is read again

  bool operator==(const RowConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const RowConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("keys", c.keys);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("cluster", c.cluster);
  visit("held", c.held);
}

// Elements of a row that one block of the cluster has: whole accesses.
constexpr i32 row_part(i32 vocab, i32 cluster) {
  return ((vocab + cluster - 1) / cluster + 7) / 8 * 8;
}

constexpr i32 kRowHeaderBytes = 42 * 8;
// Bins of the searches, and elements of the list of the largest ones, which takes their place.
constexpr i32 kBinBits = 11;
constexpr i32 kBins = 1 << kBinBits;
constexpr i32 kListCapacity = 2 * kBins;
// What a kernel that searches has behind the header.
constexpr i32 kSearchBytes = kListCapacity * 8;
constexpr i64 row_memory_bytes(const RowConfig& c, i32 vocab) {
  return kRowHeaderBytes + (c.held ? 4ll * row_part(vocab, c.cluster) : 0);
}

// Candidates of top-k (candidates.h): elements of a thread at a time, their most in a list, at
// whose end there are bins of a search among them.
constexpr i32 kCandidateElems = 16;
constexpr i32 kKeyBins = 256;
constexpr i32 kMaxCandidates = kListCapacity - kKeyBins / 2;

// Elements of a block's sample: those of its first step.
constexpr i32 sampled_elems(const RowConfig& c, i32 vocab) {
  const i32 part = row_part(vocab, c.cluster), step = c.threads * kCandidateElems;
  return part < step ? part : step;
}
// How many of them should reach the bound: their share of the k largest, and four times the
// deviation that is to be expected of that.
constexpr i32 sampled_rank(const RowConfig& c, i32 k, i32 vocab) {
  const i32 share = k * sampled_elems(c, vocab) / vocab;
  return share + share / 4 + 12;
}
// Whether they are looked for: where they will be few enough, with some reserve (the highest of
// several blocks' bounds is one by itself), and the row is not held for other searches, which leave
// no registers.
constexpr bool has_candidates(const RowConfig& c, i32 k, i32 vocab) {
  if (c.held || k <= 0 || k >= vocab || k > kMaxCandidates) return false;
  const i32 rank = sampled_rank(c, k, vocab);
  const i32 most = kMaxCandidates * (c.cluster > 2 ? 4 : 3) / 4;
  return rank <= c.threads * 3 / 4 &&
         rank <= row_part(vocab, c.cluster) / kCandidateElems * 3 / 2 &&
         i64{rank} * vocab <= i64{most} * sampled_elems(c, vocab);
}

// How many tokens are listed where top-p or min-p end the list.
constexpr i32 nucleus_tokens(i32 vocab) {
  constexpr i32 kMost = 2048;
  return vocab / 64 < kMost ? vocab / 64 : kMost;
}

// A value for all rows, or one a row.
template <class T>
struct RowValue {
  const T* values;  // [rows]; null: `value` for all
  i64 stride;       // elements
  T value;
  constexpr T at(i64 row) const { return values == nullptr ? value : values[row * stride]; }
};

// Strides in elements.
struct RowsIn {
  const void* data;  // [rows, vocab]
  i64 stride;
  i32 rows;
  i32 vocab;
};

}  // namespace quire::kernels
