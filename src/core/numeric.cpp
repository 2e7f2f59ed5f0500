#include "core/numeric.h"

#include "quire/error.h"

namespace quire::numeric {

float load(const void* data, DType dtype, std::int64_t index) {
  const auto* half = static_cast<const std::uint16_t*>(data);
  const auto* byte = static_cast<const std::uint8_t*>(data);
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[index];
    case DType::bf16:
      return bf16_to_float(half[index]);
    case DType::f16:
      return Half::decode(half[index]);
    case DType::f8e4m3:
      return E4m3::decode(byte[index]);
    case DType::f8e5m2:
      return E5m2::decode(byte[index]);
    default:
      throw Error(ErrorCode::wrong_type, "load: dtype: got " + std::string(name(dtype)) +
                                             ", expected a floating-point dtype");
  }
}

void store(void* data, DType dtype, std::int64_t index, float value) {
  auto* half = static_cast<std::uint16_t*>(data);
  auto* byte = static_cast<std::uint8_t*>(data);
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[index] = value;
      return;
    case DType::bf16:
      half[index] = float_to_bf16(value);
      return;
    case DType::f16:
      half[index] = static_cast<std::uint16_t>(Half::encode(value, false));
      return;
    case DType::f8e4m3:
      byte[index] = static_cast<std::uint8_t>(E4m3::encode(value, true));
      return;
    case DType::f8e5m2:
      byte[index] = static_cast<std::uint8_t>(E5m2::encode(value, true));
      return;
    default:
      throw Error(ErrorCode::wrong_type, "store: dtype: got " + std::string(name(dtype)) +
                                             ", expected a floating-point dtype");
  }
}

}  // namespace quire::numeric
