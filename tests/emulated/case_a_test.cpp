// Acceptance case A: current device 0, every tensor on device 1. Device and stream come from the
// tensors, never from what is current, and what is current stays.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "cuda/driver.h"
#include "emulator/emulator.h"
#include "quire/quire.h"
#include "support/reference_attention.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

constexpr int kPageSize = 16, kHeadDim = 128;

class CaseA : public testing::Test {
 protected:
  void SetUp() override {
    if (is_emulated()) emulator::install(2);
    if (num_cuda_devices() < 2) GTEST_SKIP() << "needs the emulator or two GPUs";
    first_context_ = cuda::primary_context(0);
    ASSERT_EQ(cuda::driver().ctx_set_current(first_context_), 0);
  }
  void TearDown() override {
    if (first_context_ != nullptr) {
      EXPECT_EQ(current(), first_context_) << "the caller's device has changed";
      cuda::driver().ctx_set_current(nullptr);
    }
    if (is_emulated()) emulator::install(1);
  }
  static cuda::Context current() {
    cuda::Context context = nullptr;
    cuda::driver().ctx_get_current(&context);
    return context;
  }

 private:
  cuda::Context first_context_ = nullptr;
};

constexpr Device kDevice = cuda_device(1);

TestTensor random(const Shape& shape, std::uint64_t seed) {
  return TestTensor::random(shape, DType::f16, seed, 1, kDevice);
}

// A stream of device 1, made while device 0 is current.
class OtherStream {
 public:
  OtherStream() {
    const cuda::DeviceGuard guard(kDevice.index);
    cuda::check(cuda::driver().stream_create(&stream_, /*flags=*/1), "cuStreamCreate");
  }
  ~OtherStream() {
    const cuda::DeviceGuard guard(kDevice.index);
    cuda::driver().stream_destroy(stream_);
  }
  Stream get() const { return {stream_}; }

 private:
  cuda::StreamHandle stream_ = nullptr;
};

// The cache [100, 2, 16, 2, 128] of K and V pages in turn.
struct PackedCache {
  TestTensor tensor = TestTensor({100, 2, kPageSize, 2, kHeadDim}, DType::f16, kDevice);

  TensorView half(int which) const {
    TensorView view = tensor.view().slice(1, which, which + 1);
    for (int i = 1; i < 4; ++i) {
      view.shape[static_cast<std::size_t>(i)] = view.shape[static_cast<std::size_t>(i) + 1];
      view.strides[static_cast<std::size_t>(i)] = view.strides[static_cast<std::size_t>(i) + 1];
    }
    view.rank = 4;
    return view;
  }
  PagedKv paged() const { return {half(0), half(1), KvLayout::nhd}; }
};

struct Table {
  explicit Table(Device device)
      : indptr(TestTensor::ints({0, 1}, device)),
        indices(TestTensor::ints({0}, device)),
        last_page_len(TestTensor::ints({8}, device)) {}
  PageTable get() const { return {indptr, indices, last_page_len}; }
  TestTensor indptr, indices, last_page_len;
};

// Appends 8 tokens to page 0 and returns their keys and values.
struct Appended {
  TestTensor key = random({8, 2, kHeadDim}, 1), value = random({8, 2, kHeadDim}, 2);
  PackedCache cache;

  explicit Appended(Stream stream) {
    const TestTensor indptr = TestTensor::ints({0, 8}, kDevice);
    const TestTensor seq_lens = TestTensor({1}, DType::i32, kDevice);
    const TestTensor batch_indices = TestTensor({8}, DType::i32, kDevice);
    const TestTensor positions = TestTensor({8}, DType::i32, kDevice);
    const Table table(kDevice);
    get_seq_lens(table.indptr, table.last_page_len, kPageSize, seq_lens, stream);
    get_batch_indices_positions(indptr, seq_lens, batch_indices, positions, stream);
    append_paged_kv(key, value, batch_indices, positions, cache.paged(), table.get(), stream);
    synchronize(kDevice, stream);
  }
};

void append_reads_back(Stream stream) {
  const Appended appended(stream);
  const std::vector<double> cache = appended.cache.tensor.values();
  const std::vector<double> key = appended.key.values(), value = appended.value.values();
  const std::size_t rows = 8 * 2 * kHeadDim, page = kPageSize * 2 * kHeadDim;
  for (std::size_t i = 0; i < rows; ++i) {
    ASSERT_EQ(cache[i], key[i]);
    ASSERT_EQ(cache[page + i], value[i]);
  }
  EXPECT_TRUE(appended.cache.tensor.guards_intact());
}

TEST_F(CaseA, AppendOnTheDefaultStream) { append_reads_back({}); }
TEST_F(CaseA, AppendOnAnotherStream) {
  const OtherStream stream;
  append_reads_back(stream.get());
}

// One request of qo_len rows over kv_len ragged tokens.
void attend_ragged(int qo_len, int kv_len, int num_heads, Stream stream) {
  const TestTensor q = random({qo_len, num_heads, kHeadDim}, 3);
  const TestTensor k = random({kv_len, num_heads, kHeadDim}, 4);
  const TestTensor v = random({kv_len, num_heads, kHeadDim}, 5);
  const TestTensor out = TestTensor({qo_len, num_heads, kHeadDim}, DType::f16, kDevice);
  BatchAttention attention(kDevice);
  attention.plan({.num_qo_heads = num_heads,
                  .num_kv_heads = num_heads,
                  .head_dim_qk = kHeadDim,
                  .head_dim_vo = kHeadDim,
                  .q_dtype = DType::f16,
                  .kv_dtype = DType::f16,
                  .o_dtype = DType::f16},
                 TestTensor::ints({0, qo_len}, kCpu), TestTensor::ints({0, kv_len}, kCpu), {},
                 stream);
  attention.run(q, k, v, out, {}, {.causal = true}, stream);
  synchronize(kDevice, stream);
  const ReferenceResult reference =
      reference_attention({qo_len, kv_len, q.values(), k.values(), v.values(), {}},
                          {.num_qo_heads = num_heads,
                           .num_kv_heads = num_heads,
                           .head_dim_qk = kHeadDim,
                           .head_dim_vo = kHeadDim,
                           .causal = true,
                           .sm_scale = 1 / std::sqrt(static_cast<double>(kHeadDim))});
  EXPECT_LE(relative_error(out.values(), reference.out), 1e-3);
  EXPECT_TRUE(out.guards_intact());
}

int num_heads() { return is_emulated() ? 2 : 32; }

TEST_F(CaseA, DecodeOnTheDefaultStream) { attend_ragged(1, 2048, num_heads(), {}); }
TEST_F(CaseA, DecodeOnAnotherStream) {
  const OtherStream stream;
  attend_ragged(1, 2048, num_heads(), stream.get());
}

TEST_F(CaseA, PagedPrefill) {
  const OtherStream stream;
  const Appended appended(stream.get());
  const TestTensor q = random({8, 4, kHeadDim}, 6);
  const TestTensor out = TestTensor({8, 4, kHeadDim}, DType::f16, kDevice);
  const Table on_host(kCpu);
  BatchAttention attention(kDevice);
  attention.plan({.num_qo_heads = 4,
                  .num_kv_heads = 2,
                  .head_dim_qk = kHeadDim,
                  .head_dim_vo = kHeadDim,
                  .page_size = kPageSize,
                  .q_dtype = DType::f16,
                  .kv_dtype = DType::f16,
                  .o_dtype = DType::f16},
                 TestTensor::ints({0, 8}, kCpu), on_host.get(), {}, stream.get());
  attention.run(q, appended.cache.paged(), out, {}, {.causal = true}, stream.get());
  synchronize(kDevice, stream.get());
  const ReferenceResult reference =
      reference_attention({8, 8, q.values(), appended.key.values(), appended.value.values(), {}},
                          {.num_qo_heads = 4,
                           .num_kv_heads = 2,
                           .head_dim_qk = kHeadDim,
                           .head_dim_vo = kHeadDim,
                           .causal = true,
                           .sm_scale = 1 / std::sqrt(static_cast<double>(kHeadDim))});
  EXPECT_LE(relative_error(out.values(), reference.out), 1e-3);
  EXPECT_TRUE(out.guards_intact());
}

void expect_names_both(const std::function<void()>& call, const std::string& argument,
                       const std::string& other) {
  try {
    call();
    ADD_FAILURE() << "tensors on two devices went unnoticed";
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::invalid_argument));
    for (const std::string& part :
         {argument, other, std::string("cuda:0"), std::string("cuda:1")}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "no \"" << part << "\" in: " << error.what();
    }
  }
}

TEST_F(CaseA, TensorsOnTwoDevicesAreAnErrorThatNamesThem) {
  const Device first = cuda_device(0);
  const TestTensor input = random({2, 64}, 7);
  const TestTensor out = TestTensor({2, 32}, DType::f16, first);
  expect_names_both([&] { silu_and_mul(input, out); }, "out", "input");

  const TestTensor key = random({8, 2, kHeadDim}, 1);
  const TestTensor value = TestTensor::random({8, 2, kHeadDim}, DType::f16, 2, 1, first);
  const TestTensor batch_indices = TestTensor::ints(std::vector<std::int32_t>(8, 0), kDevice);
  const TestTensor positions = TestTensor::ints({0, 1, 2, 3, 4, 5, 6, 7}, kDevice);
  const PackedCache cache;
  const Table table(kDevice);
  expect_names_both(
      [&] { append_paged_kv(key, value, batch_indices, positions, cache.paged(), table.get()); },
      "value", "key");
  for (const double x : out.values()) EXPECT_TRUE(std::isnan(x));  // nothing was written
}

TEST_F(CaseA, TheCallersDeviceIsBackAfterAnErrorToo) {
  // Found on the host, and found by the driver: a stream of device 0 for work on device 1.
  const TestTensor input = random({2, 64}, 7), out = TestTensor({2, 31}, DType::f16, kDevice);
  EXPECT_THROW(silu_and_mul(input, out), Error);
  EXPECT_EQ(current(), cuda::primary_context(0));
  if (!is_emulated()) return;  // what a GPU does with a foreign stream is its driver's choice
  cuda::StreamHandle foreign = nullptr;
  ASSERT_EQ(cuda::driver().stream_create(&foreign, 1), 0);
  const TestTensor good = TestTensor({2, 32}, DType::f16, kDevice);
  EXPECT_THROW(silu_and_mul(input, good, {foreign}), Error);
  cuda::driver().stream_destroy(foreign);
}

// The emulator's own part: what a library without a device guard would do is an error there.
TEST_F(CaseA, PointersOfAnotherDeviceAreNoticed) {
  if (!is_emulated()) GTEST_SKIP() << "needs the emulator";
  const Device first = cuda_device(0);
  const TestTensor input = random({2, 64}, 7), out = TestTensor({2, 32}, DType::f16, first);
  TensorView lie = input.view();
  lie.device = first;
  try {
    silu_and_mul(lie, out);
    ADD_FAILURE() << "went unnoticed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("memory of device 1 given to a kernel on device 0"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace quire::test
