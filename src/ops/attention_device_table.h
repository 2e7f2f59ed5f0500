// Page tables on the device: what the host can check of them, and reading them where the device is
// the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "quire/attention.h"

namespace quire {

// Sizes that the host sees. Throws invalid_argument or wrong_type.
struct DeviceTableSize {
  int batch_size = 0;
  std::int64_t num_indices = 0;  // page ids there is room for
};
DeviceTableSize check_device_table(const DevicePageTable& table, Device device);

// The arrays of BatchAttention::plan for a table that the host can read.
struct HostTable {
  std::vector<std::int32_t> qo_indptr, kv_indptr, kv_indices, kv_last_page_len;
  PageTable view();
  TensorView qo_view();
};
// Throws invalid_argument for a length that its pages do not hold.
HostTable read_table(const DevicePageTable& table, int qo_len, int page_size);

}  // namespace quire
