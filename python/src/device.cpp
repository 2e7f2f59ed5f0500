#include "quire/device.h"

#include "conversion.h"

namespace quire::python {

namespace {

std::string version() { return QUIRE_VERSION; }

int device_count() { return num_cuda_devices(); }

void wait(std::string device, std::int64_t stream) {
  synchronize(parse_device(device), to_stream(stream));
}

ffi::Tensor empty(ffi::Shape shape, std::string dtype, std::string device) {
  return allocate(shape, parse_dtype("empty", "dtype", dtype), parse_device(device));
}

// The same memory under another dtype of the same size: how NumPy arrays get dtypes that NumPy's
// DLPack cannot name.
class ReinterpretedOwner {
 public:
  explicit ReinterpretedOwner(ffi::Tensor tensor) : tensor_(std::move(tensor)) {}
  void AllocData(DLTensor* view) {
    view->data = static_cast<char*>(tensor_.data_ptr()) + tensor_.byte_offset();
  }
  void FreeData(DLTensor*) { tensor_ = ffi::Tensor(); }

 private:
  ffi::Tensor tensor_;
};

ffi::Tensor reinterpret(ffi::Tensor tensor, std::string dtype) {
  const DType target = parse_dtype("reinterpret", "dtype", dtype);
  const DLDataType source = tensor.dtype();
  if (source.bits != 8 * size_bytes(target) || source.lanes != 1) {
    throw Error(ErrorCode::wrong_type, "reinterpret: tensor: got " + std::to_string(source.bits) +
                                           " bits an element, "
                                           "expected the size of " +
                                           dtype);
  }
  return ffi::Tensor::FromNDAllocStrided(ReinterpretedOwner(tensor), tensor.shape(),
                                         tensor.strides(), to_dlpack_dtype(target),
                                         tensor.device());
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(version, translated(version));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(num_cuda_devices, translated(device_count));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(synchronize, translated(wait));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(empty, translated(empty));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(reinterpret, translated(reinterpret));

}  // namespace quire::python
