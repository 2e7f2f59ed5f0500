#include "cpu/topk.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::TopkParams;

struct Element {
  std::uint32_t key;
  std::int32_t index;
};

std::vector<Element> window(const TopkParams& p, DType dtype, std::int64_t row) {
  const int start = std::clamp(p.starts.at(row, 0), 0, p.in.vocab);
  const int room = p.in.vocab - start;
  const int length = kernels::window_length(p, row, room);
  std::vector<Element> elements(static_cast<std::size_t>(length));
  float x[kRowPiece];
  for_each_piece(length, [&](int begin, int n) {
    load_row(x, p.in.data, dtype, row * p.in.stride + start + begin, n);
    for (int i = 0; i < n; ++i) {
      elements[static_cast<std::size_t>(begin + i)] = {
          kernels::ordered_key(std::bit_cast<std::uint32_t>(x[i])), begin + i};
    }
  });
  return elements;
}

std::int32_t transformed(const TopkParams& p, std::int64_t row, std::int32_t index) {
  if (p.page_table == nullptr) return p.offsets.at(row, 0) + index;
  const std::int32_t batch = p.batches.at(row, static_cast<std::int32_t>(row));
  const std::int64_t column =
      static_cast<std::int64_t>(p.table_starts.at(row, p.starts.at(row, 0))) +
      (index >> p.page_shift);
  if (batch < 0 || batch >= p.table_rows || column < 0 || column >= p.table_columns) return -1;
  const std::int32_t page = p.page_table[batch * p.table_stride + column];
  return (page << p.page_shift) + (index & ((1 << p.page_shift) - 1));
}

void select_row(DType dtype, const TopkParams& p, std::int64_t row) {
  std::vector<Element> elements = window(p, dtype, row);
  const auto size = std::min(elements.size(), static_cast<std::size_t>(p.k));
  const auto end = elements.begin() + static_cast<std::ptrdiff_t>(size);
  std::partial_sort(elements.begin(), end, elements.end(), [&](Element a, Element b) {
    if (a.key != b.key) return a.key > b.key;
    return p.highest_index != 0 ? a.index > b.index : a.index < b.index;
  });
  if (p.by_index != 0) {
    std::sort(elements.begin(), end, [](Element a, Element b) { return a.index < b.index; });
  }
  for (int j = 0; j < p.k; ++j) {
    const bool exists = static_cast<std::size_t>(j) < size;
    const Element element = exists ? elements[static_cast<std::size_t>(j)] : Element{0, -1};
    const float value = exists ? std::bit_cast<float>(kernels::bits_of_key(element.key))
                               : -std::numeric_limits<float>::infinity();
    if (p.values != nullptr) store_row(p.values, dtype, row * p.values_stride + j, &value, 1);
    if (p.indices != nullptr) p.indices[row * p.indices_stride + j] = element.index;
    if (p.out != nullptr) {
      p.out[row * p.out_stride + j] = exists ? transformed(p, row, element.index) : -1;
    }
  }
}

}  // namespace

void top_k(DType dtype, const TopkParams& p) {
#pragma omp parallel for schedule(dynamic)
  for (std::int32_t row = 0; row < p.in.rows; ++row) select_row(dtype, p, row);
}

}  // namespace quire::cpu
