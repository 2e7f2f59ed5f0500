#include "kv/prefix_tree.h"

#include <algorithm>

namespace quire::kv {

PrefixTree::PrefixTree(int num_pages)
    : parents_(num_pages, kNoPage),
      tokens_(num_pages),
      nodes_(num_pages, Hash{this}, Equal{this}) {}

std::int32_t PrefixTree::find(std::int32_t parent, Tokens tokens) const {
  const auto found = nodes_.find(Edge{parent, tokens});
  return found == nodes_.end() ? kNoPage : *found;
}

void PrefixTree::insert(std::int32_t page, std::int32_t parent, Tokens tokens) {
  parents_[page] = parent;
  tokens_[page].assign(tokens.begin(), tokens.end());
  nodes_.insert(page);
}

void PrefixTree::erase(std::int32_t page) {
  nodes_.erase(page);
  tokens_[page] = {};
}

std::size_t PrefixTree::Hash::operator()(const Edge& edge) const {
  // FNV-1a over 32-bit words, with a final mix because tables use the low bits.
  std::uint64_t hash = 0xcbf29ce484222325u ^ static_cast<std::uint32_t>(edge.parent);
  for (const std::int32_t token : edge.tokens) {
    hash = (hash ^ static_cast<std::uint32_t>(token)) * 0x100000001b3u;
  }
  return hash ^ (hash >> 32);
}

bool PrefixTree::Equal::operator()(const Edge& edge, std::int32_t page) const {
  const Edge other = tree->edge(page);
  return edge.parent == other.parent && std::ranges::equal(edge.tokens, other.tokens);
}

PrefixTree::Edge PrefixTree::edge(std::int32_t page) const {
  return {parents_[page], tokens_[page]};
}

}  // namespace quire::kv
