#include "cuda/tensor_map.h"

#include "cuda/driver.h"

namespace quire::cuda {
namespace {

constexpr int kNoInterleave = 0, kFillWithZeros = 0;  // the driver's
constexpr int kStrideBytes = 16;                      // a multiple

}  // namespace

tile::TensorMap make_tensor_map(const BoxedTensor& tensor) {
  std::uint64_t shape[5], strides[4];
  std::uint32_t box[5];
  constexpr std::uint32_t kElementStrides[5] = {1, 1, 1, 1, 1};
  for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.rank); ++i) {
    shape[i] = static_cast<std::uint64_t>(tensor.shape[i]);
    box[i] = static_cast<std::uint32_t>(tensor.box[i]);
    if (i == 0) continue;
    // The stride of a dimension of one is never used, but must look like one.
    strides[i - 1] = tensor.shape[i] > 1
                         ? static_cast<std::uint64_t>(tensor.strides[i - 1] * tensor.element_bytes)
                         : kStrideBytes;
  }
  tile::TensorMap map;
  const int type = tensor.element_bytes == 1 ? kTensorMapU8 : kTensorMapU16;
  check(driver().tensor_map_encode_tiled(&map, type, static_cast<std::uint32_t>(tensor.rank),
                                         const_cast<void*>(tensor.data), shape, strides, box,
                                         kElementStrides, kNoInterleave, kSwizzle128, kPromote128,
                                         kFillWithZeros),
        "cuTensorMapEncodeTiled");
  return map;
}

}  // namespace quire::cuda
