#include "support/attention_shapes.h"

#include "support/test_device.h"

namespace quire::test {

AttentionCase mixed(const std::string& name) {
  AttentionCase c{.name = name};
  if (is_emulated()) {
    c.qo_lens = {1, 40, 0, 3, 20};  // long enough for the prefill tile
    c.kv_lens = {77, 70, 4, 0, 33};
  } else {
    c.qo_lens = {1, 130, 7, 0, 5, 33, 1, 20};
    c.kv_lens = {257, 130, 300, 12, 0, 17, 1, 700};
  }
  return c;
}

AttentionCase decode(const std::string& name) {
  AttentionCase c = mixed(name);
  c.qo_lens.assign(c.kv_lens.size(), 1);
  return c;
}

void set_dtype(AttentionCase& c, DType dtype) {
  c.shape.q_dtype = c.shape.kv_dtype = c.shape.o_dtype = dtype;
}

std::vector<DType> dtypes() {
  if (test_device().is_cuda()) return {DType::bf16, DType::f16};
  return {DType::bf16, DType::f16, DType::f32};
}

}  // namespace quire::test
