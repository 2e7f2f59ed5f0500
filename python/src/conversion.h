// Between apache-tvm-ffi's calling convention and Quire's types: tensors, errors, arrays of
// numbers.
#pragma once

#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/stl.h>
#include <tvm/ffi/function.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "quire/device.h"
#include "quire/error.h"
#include "quire/fp8_scale.h"
#include "quire/sampling.h"
#include "quire/tensor.h"

namespace quire::python {

namespace ffi = tvm::ffi;

// Throws the ffi error that Python shows as the exception class of error.code().
[[noreturn]] void throw_python_error(const Error& error);

// The same function with quire::Error turned into a Python exception.
template <class Result, class... Args>
auto translated(Result (*function)(Args...)) {
  return [function](Args... args) -> Result {
    try {
      return function(std::forward<Args>(args)...);
    } catch (const Error& error) {
      throw_python_error(error);
    }
  };
}

// from_dlpack with Python's errors.
TensorView import_tensor(const DLTensor& tensor);

// The dtype called `text` ("bf16", …). Throws wrong_type.
DType parse_dtype(std::string_view op, std::string_view argument, const std::string& text);

DLDataType to_dlpack_dtype(DType dtype);

inline Stream to_stream(std::int64_t handle) { return {reinterpret_cast<void*>(handle)}; }

// A 1-D contiguous i32 tensor on the host as a span.
std::span<const std::int32_t> host_ints(std::string_view op, std::string_view argument,
                                        const TensorView& tensor);

// An owning tensor that other frameworks import through DLPack.
ffi::Tensor allocate(ffi::ShapeView shape, DType dtype, Device device);
// The numbers as an owning i32 tensor [n] on the host.
ffi::Tensor to_host_tensor(std::span<const std::int32_t> values);

template <class T>
PerRow<T> per_row(const std::optional<TensorView>& tensor, T value) {
  return tensor ? PerRow<T>(*tensor) : PerRow<T>(value);
}

// A tensor, read or (computed) written, or else a number.
inline Fp8Scale to_fp8_scale(const std::optional<TensorView>& tensor, double number, bool computed,
                             bool power_of_two = false) {
  if (!tensor) return Fp8Scale(static_cast<float>(number));
  return computed ? Fp8Scale::computed(*tensor, power_of_two) : Fp8Scale(*tensor);
}

}  // namespace quire::python

// Lets exported functions take quire::TensorView (and std::optional of it) as an argument.
template <>
struct tvm::ffi::TypeTraits<quire::TensorView> : tvm::ffi::TypeTraitsBase {
  static constexpr bool storage_enabled = false;

  static std::optional<quire::TensorView> TryCastFromAnyView(const TVMFFIAny* src) {
    if (src->type_index == TypeIndex::kTVMFFIDLTensorPtr) {
      return quire::python::import_tensor(*static_cast<const DLTensor*>(src->v_ptr));
    }
    if (src->type_index == TypeIndex::kTVMFFITensor) {
      return quire::python::import_tensor(*TVMFFITensorGetDLTensorPtr(src->v_obj));
    }
    return std::nullopt;
  }
  static std::string TypeStr() { return "Tensor"; }
  static std::string TypeSchema() { return R"({"type":"Tensor"})"; }
};
