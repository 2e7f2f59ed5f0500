// The plan's arrays on the device that runs it, in one buffer with stable addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "attention/attention_plan_types.h"
#include "attention/attention_types.h"
#include "ops/attention_plan.h"
#include "quire/device.h"

namespace quire {

namespace cuda {
class StagingRing;
}

class AttentionMetadata {
 public:
  struct Offsets;  // of the arrays

  explicit AttentionMetadata(Device device);

  // Makes room for the arrays of a plan; what an earlier upload left stays valid until the next
  // one. Throws out_of_memory. The buffer grows by half at least, so that addresses rarely change.
  void reserve(const PlannedAttention& planned);

  // Takes what is reserved now: what an earlier upload left is gone.
  void adopt_reserved();

  // Writes them, ordered on `stream`: what the planner has prepared, and lengths and page ids.
  // kv_indices: the caller's, as many as are used, of one level after the other, on the host or on
  // the device; none for ragged KV. Neither waits for the device nor allocates when there is room.
  void upload(const PlannedAttention& planned, const plan::AttentionPlanner& planner,
              std::span<const TensorView> kv_indices, Stream stream);

  // Where the device writes a plan of its own, beside room for its sums; page ids stay the
  // caller's.
  kernels::AttentionPlanParams device_plan(const PlannedAttention& planned,
                                           const DevicePageTable& table);

  // Sets the array pointers of `params`.
  void fill(kernels::AttentionParams& params) const;

  // The caller's page ids on the device that `planned`, the last plan, reads; null: copies of them.
  const void* table(const PlannedAttention& planned) const {
    return planned.on_device ? arrays_.kv_indices : nullptr;
  }

  // Of the last upload(), of a plan that copies K and V: [batch_size + 1].
  const kernels::i32* copy_indptr() const { return copy_indptr_; }

  // Of the last device_plan(): [1], the first request that does not fit.
  const std::int32_t* first_bad() const { return first_bad_; }

 private:
  void point_to(std::byte* base, const Offsets& offsets);

  Device device_;
  Buffer current_, next_;  // next_: reserved, not yet uploaded to
  kernels::AttentionParams arrays_{};
  const kernels::i32* copy_indptr_ = nullptr;
  const std::int32_t* first_bad_ = nullptr;
  std::shared_ptr<cuda::StagingRing> staging_;  // null on the CPU
};

}  // namespace quire
