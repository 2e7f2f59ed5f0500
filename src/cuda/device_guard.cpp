#include <fmt/format.h>

#include <map>
#include <mutex>
#include <utility>

#include "core/log.h"
#include "cuda/driver.h"
#include "quire/error.h"

namespace quire::cuda {

DeviceHandle device_handle(int device_index) {
  int count = 0;
  check(driver().device_get_count(&count), "cuDeviceGetCount");
  if (device_index < 0 || device_index >= count) {
    throw Error(ErrorCode::device_unavailable,
                fmt::format("CUDA: device: got cuda:{}, expected an index below the {} device{} "
                            "of this machine",
                            device_index, count, count == 1 ? "" : "s"));
  }
  DeviceHandle handle = 0;
  check(driver().device_get(&handle, device_index), "cuDeviceGet");
  return handle;
}

Context primary_context(int device_index) {
  static std::mutex mutex;
  static auto& contexts =
      *new std::map<std::pair<int, int>, Context>;  // outlives static destructors
  const std::lock_guard lock(mutex);
  const auto key = std::pair(driver_generation(), device_index);
  if (const auto found = contexts.find(key); found != contexts.end()) return found->second;
  Context context = nullptr;
  check(driver().primary_ctx_retain(&context, device_handle(device_index)),
        "cuDevicePrimaryCtxRetain");
  return contexts[key] = context;
}

DeviceGuard::DeviceGuard(int device_index) {
  const Context wanted = primary_context(device_index);
  check(driver().ctx_get_current(&previous_), "cuCtxGetCurrent");
  if (previous_ == wanted) return;
  check(driver().ctx_set_current(wanted), "cuCtxSetCurrent");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (!changed_) return;
  if (const Result result = driver().ctx_set_current(previous_); result != 0) {
    log::write(log::Level::error,
               fmt::format("cuCtxSetCurrent failed with {} when restoring a context", result));
  }
}

}  // namespace quire::cuda
