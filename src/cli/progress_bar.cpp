#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace quire::cli {
namespace {

constexpr std::size_t kBarColumns = 24;
constexpr std::size_t kTextColumns = 44;
constexpr const char* kWipeLine = "\r\033[K";

}  // namespace

ProgressBar::ProgressBar(std::size_t total) : total_(total), enabled_(isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (enabled_) fmt::print(stderr, "{}", kWipeLine);
}

void ProgressBar::show(std::size_t done, const std::string& text) {
  if (!enabled_) return;
  const std::size_t filled = kBarColumns * done / std::max<std::size_t>(total_, 1);
  fmt::print(stderr, "{}[{:#<{}}{:.<{}}] {}/{} {:.{}}", kWipeLine, "", filled, "",
             kBarColumns - filled, done, total_, text, kTextColumns);
  std::fflush(stderr);
}

}  // namespace quire::cli
