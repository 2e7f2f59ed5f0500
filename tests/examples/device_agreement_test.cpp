// One mixed batch through a whole model, on the device under test in bf16 and on the CPU in f32.
#include <gtest/gtest.h>

#include "examples/random_model.h"
#include "llama_model.h"
#include "support/test_device.h"
#include "support/test_tensor.h"
#if QUIRE_WITH_CUDA
#include "support/fake_cublaslt.h"
#endif

namespace quire::test {
namespace {

using tinyllama::ComputeType;
using tinyllama::LlamaModel;
using tinyllama::ModelBatch;
using Ids = std::vector<std::int32_t>;

constexpr tinyllama::ModelLimits kLimits{
    .max_batch_tokens = 32, .max_requests = 4, .num_pages = 16, .page_size = 4};

class DeviceAgreement : public testing::Test {
 protected:
  void SetUp() override {
#if QUIRE_WITH_CUDA
    if (is_emulated()) cuda::replace_cublaslt_for_testing(&fake_cublaslt());
#endif
    write_tiny_model(directory_.path());
  }
  void TearDown() override {
#if QUIRE_WITH_CUDA
    if (is_emulated()) cuda::replace_cublaslt_for_testing(nullptr);
#endif
  }

  TemporaryDirectory directory_;
};

void add_chunk(ModelBatch& batch, int begin, const Ids& tokens) {
  const auto request = static_cast<std::int32_t>(batch.qo_indptr.size() - 1);
  for (const std::int32_t token : tokens) {
    batch.positions.push_back(begin + static_cast<std::int32_t>(batch.positions.size()) -
                              batch.qo_indptr.back());
    batch.token_ids.push_back(token);
    batch.batch_indices.push_back(request);
  }
  const auto end = static_cast<std::int32_t>(batch.token_ids.size());
  batch.qo_indptr.push_back(end);
  batch.logit_rows.push_back(end - 1);
}

// A prompt of 7 tokens; then its 8th token in one batch with a prompt that is 5 tokens long.
std::vector<double> logits_of_two_steps(LlamaModel& model) {
  KvPool pool(kLimits.num_pages, kLimits.page_size);
  const SequenceId first = pool.allocate(), second = pool.allocate();
  const Ids prompt{256, 72, 101, 108, 108, 111, 32}, next{119}, other{256, 66, 121, 101, 33};
  const auto run = [&](ModelBatch& batch, std::vector<SequenceId> ids) {
    batch.table = pool.table(ids);
    const TensorView logits = model.forward(batch);
    std::vector<float> values(static_cast<std::size_t>(logits.numel()));
    copy(values.data(), kCpu, logits.data, logits.device, values.size() * sizeof(float));
    return std::vector<double>(values.begin(), values.end());
  };
  ModelBatch prefill, mixed;
  pool.append(first, prompt);
  add_chunk(prefill, 0, prompt);
  std::vector<double> result = run(prefill, {first});
  pool.append(first, next);
  pool.append(second, other);
  add_chunk(mixed, 7, next);
  add_chunk(mixed, 0, other);
  const std::vector<double> more = run(mixed, {first, second});
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

TEST_F(DeviceAgreement, logits) {
  LlamaModel reference(directory_.path(), kCpu, kLimits, ComputeType::f32);
  LlamaModel model(directory_.path(), test_device(), kLimits, ComputeType::bf16);
  const std::vector<double> expected = logits_of_two_steps(reference);
  ASSERT_EQ(expected.size(), 3u * 264);
  EXPECT_LT(relative_error(logits_of_two_steps(model), expected), 2e-2);
}

}  // namespace
}  // namespace quire::test
