#include "emulator/warpgroup_products.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "emulator/block.h"

namespace quire::emulator {
namespace {

constexpr std::size_t kPatternBytes = 1024;  // 8 rows of 128 bytes
constexpr std::size_t kRowBytes = 128, kChunkBytes = 16;

// The 128-byte swizzle by address bits.
std::size_t swizzled(std::size_t offset) { return offset ^ (offset / kRowBytes % 8) * kChunkBytes; }

std::string place(Site site) { return fmt::format("{}:{}", site.file, site.line); }

std::string name(const QueuedProduct& entry) {
  return (entry.is_commit ? "wgmma::commit at " : "a product at ") + place(entry.site);
}

bool same(const QueuedProduct& x, const QueuedProduct& y) {
  const Product &p = x.product, &q = y.product;
  return x.is_commit == y.is_commit && x.site.line == y.site.line &&
         std::string_view(x.site.file) == y.site.file && p.n == q.n && p.type == q.type &&
         p.a_descriptor == q.a_descriptor && p.b_descriptor == q.b_descriptor &&
         p.transpose_b == q.transpose_b && p.accumulate == q.accumulate &&
         (p.a == nullptr) == (q.a == nullptr) && x.has_captured == y.has_captured;
}

// Where a thread of the group has its accumulator i: mma.m16n8k16's layout, 16 rows a warp.
int row_of(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8; }
int column_of(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

}  // namespace

std::size_t OperandLayout::chunk_k_major(int row, int byte) const {
  const auto r = static_cast<std::size_t>(row);
  return swizzled(begin + r / 8 * stride + r % 8 * kRowBytes + static_cast<std::size_t>(byte));
}

std::size_t OperandLayout::chunk_transposed(int k, int column) const {
  const auto row = static_cast<std::size_t>(k), byte = static_cast<std::size_t>(column) * 2;
  return swizzled(begin + byte / kRowBytes * leading + row / 8 * stride + row % 8 * kRowBytes +
                  byte % kRowBytes);
}

const char* decode_descriptor(u64 descriptor, bool transposed, int columns, OperandLayout& layout) {
  constexpr u64 kField = 0x3fff, kSwizzle128 = 1;
  constexpr u64 kUnused = ~(kField | kField << 16 | kField << 32 | 7ull << 49 | 3ull << 62);
  layout.begin = (descriptor & kField) << 4;
  layout.leading = (descriptor >> 16 & kField) << 4;
  layout.stride = (descriptor >> 32 & kField) << 4;
  if ((descriptor & kUnused) != 0) return "descriptor with bits that have no meaning";
  if (descriptor >> 62 != kSwizzle128) return "the emulator knows the 128-byte swizzle only";
  if ((descriptor >> 49 & 7) != 0) return "the emulator knows base offset 0 only";
  if (layout.begin < kSharedBase) return "descriptor of no address in shared memory";
  layout.begin -= kSharedBase;
  if (layout.begin % kPatternBytes >= kRowBytes) {
    return "operand does not begin in the first row of the swizzle's pattern (1024 bytes)";
  }
  if (layout.stride % kPatternBytes != 0) return "groups of 8 rows are no multiple of 1024 bytes";
  const std::size_t first = layout.begin % kRowBytes;
  const std::size_t row_bytes =
      transposed ? static_cast<std::size_t>(columns) * 2 : std::size_t{kDepthBytes};
  if (first != 0 && first + row_bytes > kRowBytes) return "operand leaves its panel of 128 bytes";
  if (transposed && row_bytes > kRowBytes && layout.leading % kPatternBytes != 0) {
    return "panels are no multiple of 1024 bytes";
  }
  return nullptr;
}

void WarpgroupProducts::clear() {
  for (Accumulators& a : accumulators_) a.key = nullptr;
}

void WarpgroupProducts::check_same(int first_thread, Site site) const {
  Block& block = Block::instance();
  const auto& expected = block.lane(first_thread).products.entries();
  for (int thread = first_thread + 1; thread < first_thread + kWarpgroupThreads; ++thread) {
    const auto& entries = block.lane(thread).products.entries();
    for (std::size_t i = 0; i < std::max(entries.size(), expected.size()); ++i) {
      if (i < entries.size() && i < expected.size() && same(entries[i], expected[i])) continue;
      const auto text = [i](const auto& list) {
        return i < list.size() ? name(list[i]) : std::string("nothing more");
      };
      block.fault(fmt::format(
          "divergence: wgmma::wait at {} finds that thread {} called {}, and thread {} {}{}",
          place(site), thread, text(entries), first_thread, text(expected),
          i < entries.size() && i < expected.size() && name(entries[i]) == name(expected[i])
              ? ", with other operands"
              : ""));
    }
  }
}

WarpgroupProducts::Accumulators& WarpgroupProducts::accumulators_of(const float* key) {
  for (Accumulators& a : accumulators_) {
    if (a.key == key) return a;
  }
  for (Accumulators& a : accumulators_) {
    if (a.key != nullptr) continue;
    a.key = key;
    if (!a.values) a.values.reset(new float[kProductRows][kMaxColumns]);
    return a;
  }
  Block::instance().fault("more accumulators under way than the emulator has room for");
}

void WarpgroupProducts::read_chunk(std::size_t offset, u8* to, const QueuedProduct& entry) {
  Block& block = Block::instance();
  const char* problem = nullptr;
  if (offset + kChunkBytes > block.smem_bytes()) {
    problem = "outside the block's shared memory";
  } else if (!block.is_fenced(offset, oldest_fence_)) {
    problem = "written with no fence_async_proxy() after";
  }
  if (problem != nullptr) {
    block.fault(
        fmt::format("{} reads shared memory at offset {}: {}", name(entry), offset, problem));
  }
  for (std::size_t i = 0; i < kChunkBytes; ++i) to[i] = block.shared_memory()[offset + i];
}

void WarpgroupProducts::read_operands(int first_thread, std::size_t index) {
  Block& block = Block::instance();
  const QueuedProduct& entry = block.lane(first_thread).products.entries()[index];
  const Product& p = entry.product;
  OperandLayout a, b;
  const char* problem = decode_descriptor(p.b_descriptor, p.transpose_b, p.n, b);
  if (problem == nullptr && p.a == nullptr) {
    problem = decode_descriptor(p.a_descriptor, false, kProductRows, a);
  }
  if (problem != nullptr) block.fault(name(entry) + ": " + problem);
  oldest_fence_ = entry.proxy_fence;
  for (int thread = first_thread; thread < first_thread + kWarpgroupThreads; ++thread) {
    const auto& entries = block.lane(thread).products.entries();
    oldest_fence_ = std::min(oldest_fence_, entries[index].proxy_fence);
  }
  for (int row = 0; p.a == nullptr && row < kProductRows; ++row) {
    for (int byte = 0; byte < kDepthBytes; byte += 16) {
      read_chunk(a.chunk_k_major(row, byte), &operands_->a[row][byte], entry);
    }
  }
  for (int thread = 0; p.a != nullptr && thread < kWarpgroupThreads; ++thread) {
    const u32* words = block.lane(first_thread + thread).products.entries()[index].a;
    for (int i = 0; i < 16; ++i) {  // byte i % 4 of word i / 4
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 4 % 2 * 8;
      operands_->a[row][i / 8 * 16 + thread % 4 * 4 + i % 4] =
          static_cast<u8>(words[i / 4] >> (8 * (i % 4)));
    }
  }
  for (int chunk = 0; chunk < 2 * p.n; ++chunk) {
    const int in_row = p.transpose_b ? p.n / 8 : 2;  // chunks
    const int row = chunk / in_row, at = chunk % in_row;
    read_chunk(p.transpose_b ? b.chunk_transposed(row, at * 8) : b.chunk_k_major(row, at * 16),
               &operands_->b[chunk * 16], entry);
  }
}

void WarpgroupProducts::execute(int first_thread, std::size_t index) {
  Block& block = Block::instance();
  const QueuedProduct& entry = block.lane(first_thread).products.entries()[index];
  const Product& p = entry.product;
  float(*d)[kMaxColumns] = accumulators_of(p.d).values.get();
  if (!p.accumulate) {
    for (int row = 0; row < kProductRows; ++row) {
      for (int column = 0; column < p.n; ++column) d[row][column] = 0;
    }
  } else if (entry.has_captured) {
    for (int thread = 0; thread < kWarpgroupThreads; ++thread) {
      const ProductQueue& queue = block.lane(first_thread + thread).products;
      const float* values = queue.captured(queue.entries()[index]);
      for (int i = 0; i < p.n / 2; ++i) d[row_of(thread, i)][column_of(thread, i)] = values[i];
    }
  }
  read_operands(first_thread, index);
  multiply(p.type, p.n, p.transpose_b, *operands_, d);
}

void WarpgroupProducts::hand_back(int first_thread, std::size_t num_covered) {
  Block& block = Block::instance();
  const auto& entries = block.lane(first_thread).products.entries();
  const auto used_later = [&](const float* d) {
    for (std::size_t i = num_covered; i < entries.size(); ++i) {
      if (!entries[i].is_commit && entries[i].product.d == d) return true;
    }
    return false;
  };
  for (std::size_t index = 0; index < num_covered; ++index) {
    const Product& p = entries[index].product;
    if (entries[index].is_commit || used_later(p.d)) continue;
    Accumulators& a = accumulators_of(p.d);
    for (int thread = 0; thread < kWarpgroupThreads; ++thread) {
      float* to = block.lane(first_thread + thread).products.entries()[index].product.d;
      for (int i = 0; i < p.n / 2; ++i) to[i] = a.values[row_of(thread, i)][column_of(thread, i)];
    }
  }
  for (std::size_t index = 0; index < num_covered; ++index) {
    const Product& p = entries[index].product;
    if (!entries[index].is_commit && !used_later(p.d)) accumulators_of(p.d).key = nullptr;
  }
}

void WarpgroupProducts::run(int first_thread, int pending, Site site) {
  check_same(first_thread, site);
  Block& block = Block::instance();
  const ProductQueue& queue = block.lane(first_thread).products;
  const std::size_t num_covered = queue.num_covered(pending);
  if (pending == 0 && num_covered < queue.entries().size()) {
    block.fault(fmt::format("wgmma::wait at {}: {} is in no group: no wgmma::commit() after it",
                            place(site), name(queue.entries().back())));
  }
  if (!operands_) operands_ = std::make_unique<Operands>();
  for (std::size_t i = 0; i < num_covered; ++i) {
    if (!queue.entries()[i].is_commit) execute(first_thread, i);
  }
  hand_back(first_thread, num_covered);
}

}  // namespace quire::emulator
