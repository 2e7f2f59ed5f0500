// Where the scale of an fp8 output comes from.
#pragma once

#include "quire/tensor.h"

namespace quire {

// An fp8 element is value / scale, rounded to nearest even; magnitudes beyond the largest finite
// one (448 in e4m3, 57344 in e5m2) become it. value = element * scale.
class Fp8Scale {
 public:
  enum class Kind : std::uint8_t { number, tensor, computed };

  // One scale of the whole output: a finite number above 0, or an f32 tensor of one element on the
  // output's device, which a captured graph reads anew.
  Fp8Scale(float number) : number_(number) {}
  Fp8Scale(const TensorView& tensor) : kind_(Kind::tensor), tensor_(tensor) {}
  // A scale a row or group of the output, computed from its largest magnitude and written to
  // `scales`, f32: max(amax, 1e-10) / largest finite fp8 magnitude, or the power of two at or above
  // it (ue8m0). The operator says the shape.
  static Fp8Scale computed(const TensorView& scales, bool power_of_two = false) {
    Fp8Scale scale(scales);
    scale.kind_ = Kind::computed;
    scale.power_of_two_ = power_of_two;
    return scale;
  }

  Kind kind() const { return kind_; }
  float number() const { return number_; }
  const TensorView& tensor() const { return tensor_; }
  bool power_of_two() const { return power_of_two_; }

 private:
  Kind kind_ = Kind::number;
  float number_ = 1;
  TensorView tensor_;
  bool power_of_two_ = false;
};

}  // namespace quire
