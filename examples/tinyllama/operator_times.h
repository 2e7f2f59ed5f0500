// Where the time of a run goes.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "quire/quire.h"

namespace tinyllama {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Adds up the seconds of each operator. A GPU has to be waited for to see how long an operator
// took, which costs the overlap of launches with work; so there only every kSampledStep-th step is
// timed.
class OperatorTimes {
 public:
  static constexpr int kSampledStep = 8;

  explicit OperatorTimes(quire::Device device) : device_(device) {}

  void begin_step(std::int64_t step) {
    is_timed_ = device_.is_cpu() || step % kSampledStep == kSampledStep / 2;
  }

  template <class F>
  void measure(const char* name, F&& work) {
    if (!is_timed_) return work();
    const auto begin = Clock::now();
    work();
    quire::synchronize(device_);
    seconds_[name] += seconds_since(begin);
  }

  bool is_sampled() const { return device_.is_cuda(); }
  const std::map<std::string, double>& seconds() const { return seconds_; }

 private:
  quire::Device device_;
  bool is_timed_ = true;
  std::map<std::string, double> seconds_;
};

}  // namespace tinyllama
