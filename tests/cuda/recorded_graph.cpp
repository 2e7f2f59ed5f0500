#include "cuda/recorded_graph.h"

#include <cstring>
#include <stdexcept>
#include <string_view>

#include "attention/attention_decode_types.h"
#include "attention/attention_plan_types.h"
#include "attention/attention_sm90_types.h"
#include "attention/attention_types.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

RecordedGraph* g_graph = nullptr;

std::size_t param_bytes(std::string_view kernel) {
  if (kernel == "attention_plan") return sizeof(kernels::AttentionPlanParams);
  if (kernel == "attention_decode") return sizeof(kernels::AttentionDecodeParams);
  if (kernel == "attention_sm90") return sizeof(kernels::AttentionSm90Params);
  return sizeof(kernels::AttentionParams);
}

void require(cuda::Result result, const char* what) {
  if (result != 0) throw std::runtime_error(what);
}

}  // namespace

RecordedGraph::RecordedGraph() : real_(cuda::driver()) {
  g_graph = this;
  // Lives on: buffers made by it may be freed through it.
  static cuda::DriverTable table;
  table = real_;
  table.stream_is_capturing = [](cuda::StreamHandle stream, int* status) {
    *status = g_graph != nullptr && g_graph->capturing_ && stream == g_graph->stream_;
    return cuda::Result{0};
  };
  table.module_get_function = [](cuda::Function* function, cuda::Module module, const char* name) {
    const cuda::Result result = g_graph->real_.module_get_function(function, module, name);
    g_graph->param_bytes_[*function] = param_bytes(name);
    return result;
  };
  table.launch_kernel = launch;
  table.memcpy_htod_async = [](cuda::DevicePtr dst, const void* src, std::size_t bytes,
                               cuda::StreamHandle stream) {
    RecordedGraph& graph = *g_graph;
    const auto copy = [&graph, dst, src, bytes, stream] {
      return graph.real_.memcpy_htod_async(dst, src, bytes, stream);
    };
    if (!graph.capturing_) return copy();
    graph.nodes_.push_back(copy);
    return cuda::Result{0};
  };
  table.memcpy_dtod_async = [](cuda::DevicePtr dst, cuda::DevicePtr src, std::size_t bytes,
                               cuda::StreamHandle stream) {
    RecordedGraph& graph = *g_graph;
    const auto copy = [&graph, dst, src, bytes, stream] {
      return graph.real_.memcpy_dtod_async(dst, src, bytes, stream);
    };
    if (!graph.capturing_) return copy();
    graph.nodes_.push_back(copy);
    return cuda::Result{0};
  };
  cuda::replace_driver_for_testing(&table);
  const cuda::DeviceGuard guard(test_device().index);
  require(real_.stream_create(&stream_, 1), "cuStreamCreate");  // 1: beside the default stream
}

RecordedGraph::~RecordedGraph() {
  synchronize(test_device(), stream());
  const cuda::DeviceGuard guard(test_device().index);
  real_.stream_destroy(stream_);
  static cuda::DriverTable restored;
  restored = real_;
  cuda::replace_driver_for_testing(&restored);
  g_graph = nullptr;
}

cuda::Result RecordedGraph::launch(const cuda::LaunchConfig* config, cuda::Function function,
                                   void** params, void** extra) {
  RecordedGraph& graph = *g_graph;
  if (!graph.capturing_) return graph.real_.launch_kernel(config, function, params, extra);
  const std::size_t bytes = graph.param_bytes_.at(function);
  // Parameters that hold tensor maps are aligned to 64 bytes.
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> copy((bytes + 63) / 64);
  std::memcpy(copy.data(), params[0], bytes);
  cuda::LaunchConfig place = *config;
  place.num_attributes = 0;  // they are the launching function's
  graph.nodes_.push_back([=, &graph]() mutable {
    void* arguments[] = {copy.data()};
    return graph.real_.launch_kernel(&place, function, arguments, nullptr);
  });
  return 0;
}

void RecordedGraph::replay() const {
  const cuda::DeviceGuard guard(test_device().index);
  for (const auto& node : nodes_) require(node(), "a node of the graph failed");
}

}  // namespace quire::test
