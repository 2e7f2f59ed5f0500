// What the launches of kernels that walk over rows share: width of access, block and grid.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>

namespace quire::cuda {

// Bytes of the widest access of global memory: 16, or the largest power of two below it that every
// address and every size and stride (bytes) is a multiple of.
int access_bytes(std::initializer_list<const void*> addresses,
                 std::initializer_list<std::int64_t> sizes_bytes);

// A tensor that is walked over in accesses of several elements.
struct AccessedTensor {
  const void* data;
  int element_bytes;
  std::initializer_list<std::int64_t> strides;  // elements
};

// Elements of the widest access that all tensors allow whose rows have `size` elements: `most`, a
// power of two, or the largest one below it. More than 16 bytes of a tensor are several accesses.
int access_elems(int most, std::int64_t size, std::initializer_list<AccessedTensor> tensors);

// Threads of a block whose threads share `num_items` items: a power of two, 32 to 256.
int block_threads(std::int64_t num_items);

// Blocks of the largest grid.
constexpr std::int64_t kMaxBlocks = std::numeric_limits<std::int32_t>::max();

// A grid for `num_groups` groups of work that blocks take in turn: no more blocks than fit on the
// device at a time. 0 without work.
unsigned grid_blocks(std::int64_t num_groups, int threads_per_block, int device_index);

}  // namespace quire::cuda
