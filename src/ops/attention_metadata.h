// The plan's arrays on the device that runs it, in one buffer with stable addresses.
#pragma once

#include "attention/attention_types.h"
#include "ops/attention_plan.h"
#include "quire/device.h"

namespace quire {

class AttentionMetadata {
 public:
  // Makes room for the arrays of `planned`; what an earlier upload left stays valid until the next
  // one. Throws out_of_memory. The buffer grows by half at least, so that addresses rarely change.
  void reserve(const PlannedAttention& planned, Device device);

  // Copies them, ordered on `stream`. kv_indices: the caller's, on the host or on `device`; null
  // for ragged KV.
  void upload(const PlannedAttention& planned, const TensorView* kv_indices, Stream stream);

  // Sets the array pointers of `params`.
  void fill(kernels::AttentionParams& params) const;

 private:
  Buffer current_, next_;  // next_: reserved, not yet uploaded to
  kernels::AttentionParams arrays_{};
};

}  // namespace quire
