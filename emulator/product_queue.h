// The matrix products that one thread has issued and not waited for.
#pragma once

#include <cstddef>
#include <vector>

#include "emulator/hooks.h"

namespace quire::emulator {

struct QueuedProduct {
  Product product{};
  Site site{};
  u64 proxy_fence = 0;       // the thread's latest
  u32 a[4] = {};             // A in registers, as it was at the issue
  std::size_t captured = 0;  // where in captured() the accumulators begin, if has_captured
  bool has_captured = false;
  bool is_commit = false;  // no product: the end of a group
};

// Used by its own thread only, but for reading while all threads of the warpgroup wait.
class ProductQueue {
 public:
  void clear();
  bool empty() const { return entries_.empty(); }
  const std::vector<QueuedProduct>& entries() const { return entries_; }
  const float* captured(const QueuedProduct& entry) const {
    return captured_.data() + entry.captured;
  }
  bool is_pending(const float* d) const;
  // How many of the entries are covered when all but the latest `pending` groups are waited for.
  std::size_t num_covered(int pending) const;

  // What is wrong with issuing this product now; null: nothing.
  const char* problem(const Product& product) const;
  void issue(const Product& product, u64 proxy_fence, Site site);
  void commit(Site site);
  void fence();
  // Forgets the first `count` entries, whose accumulators are complete unless still pending.
  void finish(std::size_t count);
  // Where the covered products read shared memory for a warp, 16 bytes at a time; false at the end.
  bool next_read(int pending, int warp, std::size_t& offset);

 private:
  struct HandedBack {
    const float* d;
    std::vector<float> values;
  };
  std::vector<QueuedProduct> entries_;
  std::vector<float> captured_;
  std::vector<HandedBack> handed_back_;  // since the last fence
  bool fenced_ = false;
  std::size_t read_entry_ = 0;  // where next_read() is
  int read_chunk_ = 0;
};

}  // namespace quire::emulator
