// A driver that computes nothing: it hands out handles, writes down what is called in which context
// and fails where a test wants it to.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cuda/driver.h"

namespace quire::test {

struct RecordedLaunch {
  std::string function;
  cuda::Context context;
  cuda::StreamHandle stream;
  unsigned grid_x, grid_y, threads, smem_bytes;
  bool starts_early;
};

struct RecordingState {
  int num_devices = 2;
  int compute_major = 9, compute_minor = 0, driver_version = 13000;
  std::map<std::string, cuda::Result> failures;  // by the driver's name of the call
  std::vector<std::string> calls;                // "cuMemAlloc in context 1"
  std::vector<RecordedLaunch> launches;
  std::vector<std::string> images;  // of modules, in the order of loading
  std::map<std::string, int> dynamic_smem_limits;
};

// Puts the driver in place, with a state of its own, and the real one back at the end.
class RecordingDriver {
 public:
  RecordingDriver();
  ~RecordingDriver();
  RecordingDriver(const RecordingDriver&) = delete;
  RecordingDriver& operator=(const RecordingDriver&) = delete;

  RecordingState& state();
};

// The handle of device `index`'s primary context, and one that the library does not know.
cuda::Context recorded_context(int index);
cuda::Context foreign_context();
// What is current in this thread.
cuda::Context current_context();
void set_current_context(cuda::Context context);

}  // namespace quire::test
