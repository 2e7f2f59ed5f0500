// From logits to token ids, each row with its request's settings.
#pragma once

#include <cstdint>
#include <vector>

#include "device_tensor.h"
#include "quire/quire.h"

namespace tinyllama {

struct RowSettings {
  float temperature = 0;  // 0: the most probable token
  float top_p = 1;
  std::int64_t seed = 0;
  std::int64_t offset = 0;  // how many tokens were drawn with this seed before
};

class Sampler {
 public:
  Sampler(int max_rows, int vocab_size, quire::Device device);

  // logits f32 [rows.size(), vocab_size] on the device.
  std::vector<std::int32_t> sample(const quire::TensorView& logits,
                                   const std::vector<RowSettings>& rows);

 private:
  DeviceTensor probs_, ids_, temperature_, top_p_, seed_, offset_;
};

}  // namespace tinyllama
