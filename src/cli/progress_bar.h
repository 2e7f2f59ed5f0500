#pragma once

#include <cstddef>
#include <string>

namespace quire::cli {

// One line on stderr that is drawn over and over; nothing at all when stderr is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::size_t total);
  ~ProgressBar();  // wipes the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::size_t done, const std::string& text);

 private:
  std::size_t total_;
  bool enabled_;
};

}  // namespace quire::cli
