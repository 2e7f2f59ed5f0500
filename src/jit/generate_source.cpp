#include <fmt/format.h>

#include "jit/kernel_spec.h"

namespace quire::jit {

std::string generate_source(const KernelSpec& spec) {
  const std::string cluster = spec.cluster_blocks > 1
                                  ? fmt::format("__cluster_dims__({}, 1, 1) ", spec.cluster_blocks)
                                  : "";
  const char* order = spec.orders_itself ? ""
                                         : "  quire::tile::wait_for_kernels_before();\n"
                                           "  quire::tile::let_next_kernel_start();\n";
  return fmt::format(
      "#include \"{}\"\n"
      "#include \"tile/launch_order.h\"\n"
      "using namespace quire::kernels;\n"
      "constexpr {} kConfig{};\n"
      "extern \"C\" __global__ void {}__launch_bounds__({}, {}) {}(const __grid_constant__ {} "
      "params) "
      "{{\n"
      "{}"
      "  quire::kernels::{}<kConfig>(params);\n"
      "}}\n",
      spec.header, spec.config_type, spec.config, cluster, spec.threads_per_block,
      spec.min_blocks_per_sm, spec.name, spec.params_type, order, spec.function);
}

}  // namespace quire::jit
