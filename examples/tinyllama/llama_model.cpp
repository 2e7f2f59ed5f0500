#include "llama_model.h"

#include <fmt/format.h>

#include <array>

namespace tinyllama {

using quire::DType;
using quire::TensorView;

namespace {

DType resolve(ComputeType type, DType stored, quire::Device device) {
  switch (type) {
    case ComputeType::f32:
      return DType::f32;
    case ComputeType::bf16:
      return DType::bf16;
    case ComputeType::f16:
      return DType::f16;
    case ComputeType::automatic:
      break;
  }
  if (device.is_cpu()) return DType::f32;
  return stored == DType::f16 ? DType::f16 : DType::bf16;
}

// [n, heads * head_dim] as [n, heads, head_dim].
TensorView by_head(const TensorView& rows, int head_dim) {
  TensorView view = rows;
  view.rank = 3;
  view.shape = {rows.shape[0], rows.shape[1] / head_dim, head_dim};
  view.strides = {rows.strides[0], head_dim, 1};
  return view;
}

}  // namespace

LlamaModel::LlamaModel(const std::filesystem::path& directory, quire::Device device,
                       const ModelLimits& limits, ComputeType compute_type)
    : config_(read_llama_config(directory)),
      limits_(limits),
      device_(device),
      attention_(device),
      times_(device) {
  const SafeTensors files(directory);
  const std::array<std::int64_t, 2> shape{config_.vocab_size, config_.hidden_size};
  const DType stored = files.get("model.embed_tokens.weight", shape).dtype;
  dtype_ = resolve(compute_type, stored, device);
  load_weights(WeightLoader(files, dtype_, device));
  allocate_activations();
}

void LlamaModel::load_weights(const WeightLoader& loader) {
  const LlamaConfig& c = config_;
  const int hidden = c.hidden_size, kv_size = c.num_kv_heads * c.head_dim;
  embedding_ = loader.matrix({{"model.embed_tokens.weight", c.vocab_size}}, hidden);
  final_norm_ = loader.vector("model.norm.weight", hidden);
  if (!c.tied_embeddings) lm_head_ = loader.matrix({{"lm_head.weight", c.vocab_size}}, hidden);
  for (int i = 0; i < c.num_layers; ++i) {
    const std::string prefix = fmt::format("model.layers.{}.", i);
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    Layer& layer = layers_.emplace_back();
    layer.input_norm = loader.vector(prefix + "input_layernorm.weight", hidden);
    layer.post_attention_norm = loader.vector(prefix + "post_attention_layernorm.weight", hidden);
    layer.qkv = loader.matrix({{attention + "q_proj.weight", c.attention_size()},
                               {attention + "k_proj.weight", kv_size},
                               {attention + "v_proj.weight", kv_size}},
                              hidden);
    layer.o_proj = loader.matrix({{attention + "o_proj.weight", hidden}}, c.attention_size());
    layer.gate_up = loader.matrix({{mlp + "gate_proj.weight", c.intermediate_size},
                                   {mlp + "up_proj.weight", c.intermediate_size}},
                                  hidden);
    layer.down_proj = loader.matrix({{mlp + "down_proj.weight", hidden}}, c.intermediate_size);
    for (DeviceTensor* cache : {&layer.k_cache, &layer.v_cache}) {
      *cache = DeviceTensor({limits_.num_pages, limits_.page_size, c.num_kv_heads, c.head_dim},
                            dtype_, device_);
    }
  }
}

void LlamaModel::allocate_activations() {
  const LlamaConfig& c = config_;
  const int tokens = limits_.max_batch_tokens, requests = limits_.max_requests;
  const auto values = [&](int rows, int columns, DType dtype) {
    return DeviceTensor({rows, columns}, dtype, device_);
  };
  const auto ints = [&](int count) { return DeviceTensor({count}, DType::i32, device_); };
  activations_ = {
      .residual = values(tokens, c.hidden_size, dtype_),
      .hidden = values(tokens, c.hidden_size, dtype_),
      .qkv = values(tokens, c.qkv_size(), dtype_),
      .attention = values(tokens, c.attention_size(), dtype_),
      .gate_up = values(tokens, 2 * c.intermediate_size, dtype_),
      .gated = values(tokens, c.intermediate_size, dtype_),
      .last_hidden = values(requests, c.hidden_size, dtype_),
      .logits = values(requests, c.vocab_size, DType::f32),
      .token_ids = ints(tokens),
      .positions = ints(tokens),
      .batch_indices = ints(tokens),
      .logit_rows = ints(requests),
      .indptr = ints(requests + 1),
      // Shared pages are listed once a request.
      .indices = ints(requests * (c.max_positions / limits_.page_size + 1)),
      .last_page_len = ints(requests),
  };
}

void LlamaModel::check(const ModelBatch& batch) const {
  const auto at_most = [](const char* what, std::size_t got, int limit) {
    if (got <= static_cast<std::size_t>(limit)) return;
    throw quire::Error(quire::ErrorCode::invalid_argument,
                       fmt::format("model: {}: got {}, expected at most {}", what, got, limit));
  };
  at_most("tokens", batch.token_ids.size(), limits_.max_batch_tokens);
  at_most("requests", batch.table.last_page_len.size(), limits_.max_requests);
  for (const std::int32_t id : batch.token_ids) {
    if (id < 0 || id >= config_.vocab_size) {
      throw quire::Error(
          quire::ErrorCode::invalid_argument,
          fmt::format("model: token id: got {}, expected 0 to {}", id, config_.vocab_size - 1));
    }
  }
}

LlamaModel::Inputs LlamaModel::upload(const ModelBatch& batch) {
  using Ints = std::span<const std::int32_t>;
  Activations& a = activations_;
  return {.token_ids = a.token_ids.upload(Ints(batch.token_ids)),
          .positions = a.positions.upload(Ints(batch.positions)),
          .batch_indices = a.batch_indices.upload(Ints(batch.batch_indices)),
          .logit_rows = a.logit_rows.upload(Ints(batch.logit_rows)),
          .table = {.indptr = a.indptr.upload(Ints(batch.table.indptr)),
                    .indices = a.indices.upload(Ints(batch.table.indices)),
                    .last_page_len = a.last_page_len.upload(Ints(batch.table.last_page_len))}};
}

void LlamaModel::plan(const ModelBatch& batch, const Inputs& inputs) {
  const quire::AttentionShape shape{.num_qo_heads = config_.num_qo_heads,
                                    .num_kv_heads = config_.num_kv_heads,
                                    .head_dim_qk = config_.head_dim,
                                    .head_dim_vo = config_.head_dim,
                                    .page_size = limits_.page_size,
                                    .q_dtype = dtype_,
                                    .kv_dtype = dtype_,
                                    .o_dtype = dtype_};
  const quire::PageTable table{.indptr = host_view(batch.table.indptr),
                               .indices = inputs.table.indices,
                               .last_page_len = host_view(batch.table.last_page_len)};
  attention_.plan(shape, host_view(batch.qo_indptr), table, {.causal = true});
}

TensorView LlamaModel::forward(const ModelBatch& batch) {
  check(batch);
  Inputs inputs;
  times_.measure("plan and upload", [&] {
    inputs = upload(batch);
    plan(batch, inputs);
  });
  const auto num_tokens = static_cast<std::int64_t>(batch.token_ids.size());
  const TensorView residual = activations_.residual.rows(num_tokens);
  const TensorView hidden = activations_.hidden.rows(num_tokens);
  const float eps = config_.rms_norm_eps;
  times_.measure("embedding", [&] { gather_rows(embedding_, inputs.token_ids, residual); });
  times_.measure("norm", [&] { rms_norm(residual, layers_[0].input_norm, hidden, eps); });
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    attend(layer, inputs);
    times_.measure("norm",
                   [&] { fused_add_rms_norm(hidden, residual, layer.post_attention_norm, eps); });
    feed_forward(layer, num_tokens);
    const DeviceTensor& next = i + 1 < layers_.size() ? layers_[i + 1].input_norm : final_norm_;
    times_.measure("norm", [&] { fused_add_rms_norm(hidden, residual, next, eps); });
  }
  const auto num_rows = static_cast<std::int64_t>(batch.logit_rows.size());
  const TensorView logits = activations_.logits.rows(num_rows);
  if (num_rows == 0) return logits;
  const TensorView last_hidden = activations_.last_hidden.rows(num_rows);
  times_.measure("embedding", [&] { gather_rows(hidden, inputs.logit_rows, last_hidden); });
  const TensorView& output = config_.tied_embeddings ? embedding_ : lm_head_;
  times_.measure("gemm", [&] { gemm(last_hidden, output, logits); });
  return logits;
}

// hidden = o_proj(attention(qkv(hidden))), and the new keys and values enter the cache.
void LlamaModel::attend(const Layer& layer, const Inputs& inputs) {
  const LlamaConfig& c = config_;
  const std::int64_t num_tokens = inputs.token_ids.shape[0];
  const TensorView hidden = activations_.hidden.rows(num_tokens);
  const TensorView qkv = activations_.qkv.rows(num_tokens);
  const TensorView out = activations_.attention.rows(num_tokens);
  times_.measure("gemm", [&] { gemm(hidden, layer.qkv, qkv); });

  const int k_begin = c.attention_size(), v_begin = k_begin + c.num_kv_heads * c.head_dim;
  const TensorView q = by_head(qkv.slice(1, 0, k_begin), c.head_dim);
  const TensorView k = by_head(qkv.slice(1, k_begin, v_begin), c.head_dim);
  const TensorView v = by_head(qkv.slice(1, v_begin, c.qkv_size()), c.head_dim);
  const quire::PagedKv cache{.k = layer.k_cache, .v = layer.v_cache};
  times_.measure("rope", [&] { apply_rope_pos_ids(q, k, inputs.positions, q, k, c.rope); });
  times_.measure("append", [&] {
    append_paged_kv(k, v, inputs.batch_indices, inputs.positions, cache, inputs.table);
  });
  times_.measure("attention",
                 [&] { attention_.run(q, cache, by_head(out, c.head_dim), {}, {.causal = true}); });
  times_.measure("gemm", [&] { gemm(out, layer.o_proj, hidden); });
}

// hidden = down_proj(silu(gate_proj(hidden)) * up_proj(hidden)).
void LlamaModel::feed_forward(const Layer& layer, std::int64_t num_tokens) {
  const TensorView hidden = activations_.hidden.rows(num_tokens);
  const TensorView gate_up = activations_.gate_up.rows(num_tokens);
  const TensorView gated = activations_.gated.rows(num_tokens);
  times_.measure("gemm", [&] { gemm(hidden, layer.gate_up, gate_up); });
  times_.measure("activation", [&] { silu_and_mul(gate_up, gated); });
  times_.measure("gemm", [&] { gemm(gated, layer.down_proj, hidden); });
}

}  // namespace tinyllama
