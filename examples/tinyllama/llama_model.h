// A Llama on one device: its weights, its KV-cache and one forward pass over a mixed batch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "device_tensor.h"
#include "llama_config.h"
#include "operator_times.h"
#include "quire/quire.h"
#include "weight_loader.h"

namespace tinyllama {

// What to compute with. automatic: f32 on the CPU, the checkpoint's 16-bit type on CUDA (bf16 for a
// checkpoint in f32).
enum class ComputeType { automatic, f32, bf16, f16 };

// The most that one step may bring, and the size of the KV-cache.
struct ModelLimits {
  int max_batch_tokens = 256;
  int max_requests = 64;
  int num_pages = 256;
  int page_size = 16;
};

// One step: request r computes the tokens [qo_indptr[r], qo_indptr[r + 1]), which are the last ones
// of its pages. Decode is one token, a prompt is many: both in the same batch.
struct ModelBatch {
  std::vector<std::int32_t> token_ids;      // [n]
  std::vector<std::int32_t> positions;      // [n]
  std::vector<std::int32_t> batch_indices;  // [n], the request of each token
  std::vector<std::int32_t> qo_indptr{0};   // [requests + 1]
  std::vector<std::int32_t> logit_rows;     // rows of the batch whose logits are wanted
  quire::KvPool::Table table;
};

class LlamaModel {
 public:
  LlamaModel(const std::filesystem::path& directory, quire::Device device,
             const ModelLimits& limits, ComputeType compute_type = ComputeType::automatic);

  // f32 [logit_rows, vocab_size] on the device, valid until the next call.
  quire::TensorView forward(const ModelBatch& batch);

  const LlamaConfig& config() const { return config_; }
  const ModelLimits& limits() const { return limits_; }
  quire::Device device() const { return device_; }
  quire::DType dtype() const { return dtype_; }
  OperatorTimes& times() { return times_; }

 private:
  struct Layer {
    DeviceTensor input_norm, qkv, o_proj, post_attention_norm, gate_up, down_proj;
    DeviceTensor k_cache, v_cache;
  };
  // Everything a step needs, allocated once for the largest batch.
  struct Activations {
    DeviceTensor residual, hidden, qkv, attention, gate_up, gated, last_hidden, logits;
    DeviceTensor token_ids, positions, batch_indices, logit_rows, indptr, indices, last_page_len;
  };
  struct Inputs {
    quire::TensorView token_ids, positions, batch_indices, logit_rows;
    quire::PageTable table;
  };

  void load_weights(const WeightLoader& loader);
  void allocate_activations();
  void check(const ModelBatch& batch) const;
  Inputs upload(const ModelBatch& batch);
  void plan(const ModelBatch& batch, const Inputs& inputs);
  void attend(const Layer& layer, const Inputs& inputs);
  void feed_forward(const Layer& layer, std::int64_t num_tokens);

  LlamaConfig config_;
  ModelLimits limits_;
  quire::Device device_;
  quire::DType dtype_;
  DeviceTensor embedding_, final_norm_, lm_head_;
  std::vector<Layer> layers_;
  Activations activations_;
  quire::BatchAttention attention_;
  OperatorTimes times_;
};

}  // namespace tinyllama
