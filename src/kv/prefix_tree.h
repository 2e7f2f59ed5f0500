// A radix tree over token ids whose digits are whole pages: which page continues a cached prefix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

#include "kv/page_store.h"

namespace quire::kv {

using Tokens = std::span<const std::int32_t>;

// A node is the page it caches; its parent is the page before, kNoPage for a first page. All edges
// live in one hash table, compared by content, so that a lookup costs the tokens of one page.
class PrefixTree {
 public:
  explicit PrefixTree(int num_pages);
  PrefixTree(const PrefixTree&) = delete;  // the hash table points to this
  PrefixTree& operator=(const PrefixTree&) = delete;

  // The page that holds `tokens` (one page of them) after the prefix that ends in `parent`.
  std::int32_t find(std::int32_t parent, Tokens tokens) const;
  void insert(std::int32_t page, std::int32_t parent, Tokens tokens);  // not there yet
  void erase(std::int32_t page);                                       // a leaf

 private:
  struct Edge {
    std::int32_t parent;
    Tokens tokens;
  };
  struct Hash {
    using is_transparent = void;
    const PrefixTree* tree;
    std::size_t operator()(const Edge& edge) const;
    std::size_t operator()(std::int32_t page) const { return (*this)(tree->edge(page)); }
  };
  struct Equal {
    using is_transparent = void;
    const PrefixTree* tree;
    bool operator()(std::int32_t a, std::int32_t b) const { return a == b; }
    bool operator()(const Edge& edge, std::int32_t page) const;
    bool operator()(std::int32_t page, const Edge& edge) const { return (*this)(edge, page); }
  };

  Edge edge(std::int32_t page) const;

  std::vector<std::int32_t> parents_;              // [num_pages]
  std::vector<std::vector<std::int32_t>> tokens_;  // [num_pages], empty unless cached
  std::unordered_set<std::int32_t, Hash, Equal> nodes_;
};

}  // namespace quire::kv
