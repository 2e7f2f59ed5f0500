// A CUDA graph without the driver's: while it captures, copies and launches are recorded with what
// they were given by value, and not done; replay() does them.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "quire/device.h"

namespace quire::test {

// One at a time. Puts a table of its own in force, and the former one back at its end. Kernels are
// loaded anew through its table: it learns their names.
class RecordedGraph {
 public:
  RecordedGraph();
  ~RecordedGraph();
  RecordedGraph(const RecordedGraph&) = delete;
  RecordedGraph& operator=(const RecordedGraph&) = delete;

  Stream stream() const { return {stream_}; }
  void begin_capture() { capturing_ = true; }
  void end_capture() { capturing_ = false; }
  void replay() const;
  std::size_t size() const { return nodes_.size(); }

 private:
  static cuda::Result launch(const cuda::LaunchConfig* config, cuda::Function function,
                             void** params, void** extra);

  cuda::DriverTable real_;
  cuda::StreamHandle stream_ = nullptr;
  bool capturing_ = false;
  std::map<cuda::Function, std::size_t> param_bytes_;
  std::vector<std::function<cuda::Result()>> nodes_;
};

}  // namespace quire::test
