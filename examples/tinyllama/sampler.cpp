#include "sampler.h"

#include <algorithm>

namespace tinyllama {

using quire::DType;

Sampler::Sampler(int max_rows, int vocab_size, quire::Device device)
    : probs_({max_rows, vocab_size}, DType::f32, device),
      ids_({max_rows}, DType::i32, device),
      temperature_({max_rows}, DType::f32, device),
      top_p_({max_rows}, DType::f32, device),
      seed_({max_rows}, DType::i64, device),
      offset_({max_rows}, DType::i64, device) {}

std::vector<std::int32_t> Sampler::sample(const quire::TensorView& logits,
                                          const std::vector<RowSettings>& rows) {
  const auto num_rows = static_cast<std::int64_t>(rows.size());
  const quire::TensorView ids = ids_.rows(num_rows);
  const bool all_greedy = std::ranges::all_of(rows, [](auto& row) { return row.temperature == 0; });
  if (all_greedy) {
    argmax(logits, ids);
  } else {
    const auto upload = [&]<class T>(const DeviceTensor& tensor, T RowSettings::* member) {
      std::vector<T> values;
      for (const RowSettings& row : rows) values.push_back(row.*member);
      return tensor.upload(std::span<const T>(values));
    };
    // Temperature 0 puts all probability on the largest logit: greedy rows need no other path.
    const quire::TensorView probs = probs_.rows(num_rows);
    softmax(logits, probs, upload(temperature_, &RowSettings::temperature));
    quire::SamplingOptions options;
    options.seed = upload(seed_, &RowSettings::seed);
    options.offset = upload(offset_, &RowSettings::offset);
    top_p_sample(probs, ids, upload(top_p_, &RowSettings::top_p), options);
  }
  std::vector<std::int32_t> result(rows.size());
  quire::copy(result.data(), quire::kCpu, ids.data, ids.device, rows.size() * sizeof(std::int32_t));
  const auto bad = std::ranges::find(result, -1);
  if (bad != result.end()) {
    throw quire::Error(quire::ErrorCode::invalid_argument,
                       "model: logits: got NaN, expected numbers; are the weights damaged?");
  }
  return result;
}

}  // namespace tinyllama
