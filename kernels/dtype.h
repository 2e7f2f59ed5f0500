// Fixed-width names and dtypes shared by host and device code. No header is included: NVRTC has
// none.
#pragma once

namespace quire::kernels {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;

// Same values as quire::DType.
enum class DType : u8 { f32, f16, bf16, f8e4m3, f8e5m2, i32, i64, u8, boolean };

constexpr int size_bytes(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::i64:
      return 8;
    default:
      return 1;
  }
}

constexpr bool is_fp8(DType t) { return t == DType::f8e4m3 || t == DType::f8e5m2; }

// The C++ source text of a value, for generated configuration literals.
constexpr const char* literal(DType t) {
  switch (t) {
    case DType::f32:
      return "DType::f32";
    case DType::f16:
      return "DType::f16";
    case DType::bf16:
      return "DType::bf16";
    case DType::f8e4m3:
      return "DType::f8e4m3";
    case DType::f8e5m2:
      return "DType::f8e5m2";
    case DType::i32:
      return "DType::i32";
    case DType::i64:
      return "DType::i64";
    case DType::u8:
      return "DType::u8";
    case DType::boolean:
      return "DType::boolean";
  }
  return "";
}

}  // namespace quire::kernels
