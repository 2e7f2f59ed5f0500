// From safetensors files to tensors on the device, in the dtype that the model computes with.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "device_tensor.h"
#include "quire/quire.h"
#include "safetensors.h"

namespace tinyllama {

struct NamedRows {
  std::string name;
  std::int64_t rows;
};

class WeightLoader {
 public:
  WeightLoader(const SafeTensors& files, quire::DType dtype, quire::Device device)
      : files_(files), dtype_(dtype), device_(device) {}

  DeviceTensor vector(const std::string& name, std::int64_t size) const;
  // Matrices [rows, columns] below one another: projections of one input become a single product.
  DeviceTensor matrix(std::initializer_list<NamedRows> parts, std::int64_t columns) const;

 private:
  void copy_converted(const quire::TensorView& from, void* to) const;

  const SafeTensors& files_;
  quire::DType dtype_;
  quire::Device device_;
};

}  // namespace tinyllama
