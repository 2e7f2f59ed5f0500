// What the kernels that test one tile primitive each share with the tests.
#pragma once

#include "dtype.h"
#include "tile/tensor_map_types.h"

namespace quire::kernels {

struct PrimitiveConfig {
  DType dtype = DType::f32;
  i32 n = 1;     // what it means is said at the kernel
  i32 mode = 0;  // the same
};

template <class Visitor>
constexpr void visit_fields(const PrimitiveConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("n", c.n);
  visit("mode", c.mode);
}

struct PrimitiveParams {
  const void* a;
  const void* b;
  void* out;
  i32 count;
  tile::TensorMap map;  // where copies of boxes are tested
};

}  // namespace quire::kernels
