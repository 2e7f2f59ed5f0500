// What one kernel is: everything that decides its machine code, as text.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include "dtype.h"

namespace quire::jit {

// A header that is not below kernels/: text that #include "name" finds.
struct VirtualHeader {
  std::string name;
  std::string text;
};

struct KernelSpec {
  std::string name;         // entry point and readable prefix of the cache key: "normalize"
  std::string header;       // below kernels/: "norm/norm.cuh"
  std::string function;     // in quire::kernels, called as function<kConfig>(params): "normalize"
  std::string config_type;  // in quire::kernels: "NormConfig"
  std::string config;       // its designated initializer: "{.dtype=DType::bf16, .threads=256}"
  std::string params_type;  // in quire::kernels: "NormParams"
  int threads_per_block = 128;
  int min_blocks_per_sm = 1;
  bool orders_itself = false;  // the function waits for the kernels before it (tile/launch_order.h)
  int cluster_blocks = 1;      // neighbours in the grid's first dimension; more need sm_90
  std::size_t dynamic_smem_bytes = 0;
  std::vector<VirtualHeader> extra_headers = {};  // part of the cache key
};

// The whole generated translation unit: include, constexpr config, extern "C" entry.
std::string generate_source(const KernelSpec& spec);

// "{.dtype=DType::bf16, .threads=256}" from a config with visit_fields(). Enums other than DType
// need a `literal(Enum)` beside them, found by argument-dependent lookup.
template <class Config>
std::string config_literal(const Config& config) {
  std::string text = "{";
  visit_fields(config, [&](const char* name, auto value) {
    if (text.size() > 1) text += ", ";
    text += std::string(".") + name + "=";
    if constexpr (std::is_enum_v<decltype(value)>) {
      text += literal(value);
    } else if constexpr (std::is_same_v<decltype(value), bool>) {
      text += value ? "true" : "false";
    } else {
      text += std::to_string(value);
    }
  });
  return text + "}";
}

}  // namespace quire::jit
