#include "conversion.h"

#include <array>
#include <cstring>
#include <memory>

#include "quire/dlpack.h"

namespace quire::python {

namespace {

const char* exception_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "ValueError";
    case ErrorCode::wrong_type:
      return "TypeError";
    case ErrorCode::not_implemented:
      return "NotImplementedError";
    case ErrorCode::out_of_memory:
      return "MemoryError";
    case ErrorCode::device_unavailable:
    case ErrorCode::driver:
    case ErrorCode::compile:
    case ErrorCode::io:
      return "RuntimeError";
  }
  return "RuntimeError";
}

DLDevice to_dlpack_device(Device device) {
  return {device.is_cpu() ? kDLCPU : kDLCUDA, device.index};
}

// The allocator interface of ffi::Tensor::FromNDAlloc, which copies its allocator.
struct BufferOwner {
  std::shared_ptr<Buffer> buffer;
  void AllocData(DLTensor* tensor) { tensor->data = buffer->data(); }
  void FreeData(DLTensor*) { buffer.reset(); }
};

}  // namespace

void throw_python_error(const Error& error) {
  throw ffi::Error(exception_name(error.code()), error.what(), "");
}

TensorView import_tensor(const DLTensor& tensor) {
  try {
    return from_dlpack(tensor);
  } catch (const Error& error) {
    throw_python_error(error);
  }
}

DType parse_dtype(std::string_view op, std::string_view argument, const std::string& text) {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    if (name(static_cast<DType>(i)) == text) return static_cast<DType>(i);
  }
  throw Error(ErrorCode::wrong_type, std::string(op) + ": " + std::string(argument) + ": got " +
                                         text + ", expected a dtype that Quire knows");
}

std::span<const std::int32_t> host_ints(std::string_view op, std::string_view argument,
                                        const TensorView& tensor) {
  if (tensor.dtype != DType::i32 || tensor.rank != 1 || !tensor.device.is_cpu() ||
      !tensor.is_contiguous()) {
    throw Error(tensor.dtype == DType::i32 ? ErrorCode::invalid_argument : ErrorCode::wrong_type,
                std::string(op) + ": " + std::string(argument) + ": got " + to_string(tensor) +
                    ", expected i32 [n], contiguous, on the CPU");
  }
  return {static_cast<const std::int32_t*>(tensor.data), static_cast<std::size_t>(tensor.shape[0])};
}

DLDataType to_dlpack_dtype(DType dtype) {
  TensorView scalar;
  scalar.dtype = dtype;
  std::array<std::int64_t, 1> none{};
  return to_dlpack<DLTensor>(scalar, none).dtype;
}

ffi::Tensor allocate(ffi::ShapeView shape, DType dtype, Device device) {
  std::size_t bytes = size_bytes(dtype);
  for (const std::int64_t size : shape) {
    if (size < 0) throw Error(ErrorCode::invalid_argument, "allocate: shape: got a negative size");
    bytes *= static_cast<std::size_t>(size);
  }
  return ffi::Tensor::FromNDAlloc(BufferOwner{std::make_shared<Buffer>(bytes, device)}, shape,
                                  to_dlpack_dtype(dtype), to_dlpack_device(device));
}

ffi::Tensor to_host_tensor(std::span<const std::int32_t> values) {
  const std::int64_t size = static_cast<std::int64_t>(values.size());
  ffi::Tensor tensor = allocate(ffi::ShapeView(&size, 1), DType::i32, kCpu);
  if (!values.empty()) std::memcpy(tensor.data_ptr(), values.data(), values.size_bytes());
  return tensor;
}

}  // namespace quire::python
