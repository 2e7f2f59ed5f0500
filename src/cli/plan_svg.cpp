#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "cli/plan_drawing.h"

namespace quire::cli {
namespace {

constexpr double kLeft = 56, kTop = 64, kPlotWidth = 960, kLegendWidth = 190;
constexpr int kMaxLegendEntries = 20;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

// Neighbouring requests get distant hues (the golden angle); heads of one differ in lightness.
std::string color(int request, int kv_head) {
  const double hue = std::fmod(request * 137.508 + 210, 360);
  return fmt::format("hsl({:.0f},62%,{}%)", hue, 46 + kv_head % 4 * 7);
}

// About eight marks at 1, 2 or 5 times a power of ten.
double tick_distance(double longest) {
  const double rough = std::max(longest / 8, 1e-3);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

class SvgWriter {
 public:
  SvgWriter(const PlanDrawing& drawing, const std::string& title)
      : drawing_(drawing), title_(title) {
    line_height_ = std::clamp(720.0 / std::max(drawing.num_workers, 1), 4.0, 22.0);
    plot_height_ = line_height_ * drawing.num_workers;
  }

  std::string write() {
    const double width = kLeft + kPlotWidth + kLegendWidth, height = kTop + plot_height_ + 48;
    add(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" )"
        R"(viewBox="0 0 {0:.0f} {1:.0f}" font-family="sans-serif" font-size="12">)",
        width, height);
    add(R"(<rect width="100%" height="100%" fill="white"/>)");
    add(R"(<text x="{}" y="24" font-size="16" font-weight="bold">{}</text>)", kLeft,
        escaped(title_));
    add(R"(<text x="{}" y="44" fill="#444">{} items on {} workers, {} split tiles; load in steps: )"
        R"(longest {:.1f}, mean {:.1f}, shortest {:.1f}; balance {:.1f} %</text>)",
        kLeft, drawing_.bars.size(), drawing_.num_workers, drawing_.num_split_tiles,
        drawing_.longest, drawing_.mean, drawing_.shortest, 100 * drawing_.balance());
    add_axes();
    for (const PlanBar& bar : drawing_.bars) add_bar(bar);
    add_mean();
    add_legend();
    return text_ + "</svg>\n";
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }

  double x(double time) const {
    return kLeft + (drawing_.longest > 0 ? time / drawing_.longest * kPlotWidth : 0);
  }

  void add_axes() {
    const double bottom = kTop + plot_height_;
    const double distance = tick_distance(drawing_.longest);
    for (double time = 0; time <= drawing_.longest; time += distance) {
      add(R"(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2:.1f}" stroke="#ddd"/>)", x(time), kTop,
          bottom + 4);
      add(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="#444">{:g}</text>)", x(time),
          bottom + 18, time);
    }
    add(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="#444">cost, steps of tile_kv )"
        R"(tokens</text>)",
        kLeft + kPlotWidth / 2, bottom + 36);
    const int every = std::max(1, static_cast<int>(std::ceil(14 / line_height_)));
    for (int w = 0; w < drawing_.num_workers; w += every) {
      add(R"(<text x="{}" y="{:.1f}" text-anchor="end" font-size="10" fill="#444">{}</text>)",
          kLeft - 6, kTop + (w + 0.5) * line_height_ + 3.5, w);
    }
  }

  void add_bar(const PlanBar& bar) {
    const kernels::WorkItem& item = bar.item;
    const bool split = item.partial_row >= 0;
    add(R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}" stroke="{}" )"
        R"(stroke-width="{}"><title>request {}, kv head {}, rows from {}, kv {} to {}, )"
        R"(cost {:.1f}{}</title></rect>)",
        x(bar.begin), kTop + bar.worker * line_height_ + 0.5, x(bar.end) - x(bar.begin),
        line_height_ - 1, color(item.request, item.kv_head), split ? "#111" : "white",
        split ? 0.8 : 0.4, item.request, item.kv_head, item.q_begin, item.kv_begin, item.kv_end,
        bar.end - bar.begin, split ? ", partial" : "");
  }

  void add_mean() {
    add(R"(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2:.1f}" stroke="#c00" )"
        R"(stroke-dasharray="4 3"/>)",
        x(drawing_.mean), kTop - 6, kTop + plot_height_);
    add(R"(<text x="{:.1f}" y="{}" text-anchor="end" font-size="10" fill="#c00">mean load</text>)",
        x(drawing_.mean) - 3, kTop - 2);
  }

  // The requests that cost most.
  void add_legend() {
    std::vector<double> costs(static_cast<std::size_t>(drawing_.num_requests));
    for (const PlanBar& bar : drawing_.bars) {
      costs[static_cast<std::size_t>(bar.item.request)] += bar.end - bar.begin;
    }
    std::vector<int> order(costs.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int a, int b) {
      return costs[static_cast<std::size_t>(a)] > costs[static_cast<std::size_t>(b)];
    });
    const double left = kLeft + kPlotWidth + 18;
    add(R"(<text x="{}" y="{}" font-weight="bold">requests by cost</text>)", left, kTop + 4);
    for (std::size_t i = 0; i < order.size() && i < kMaxLegendEntries; ++i) {
      const double y = kTop + 22 + 17 * static_cast<double>(i);
      add(R"(<rect x="{}" y="{:.0f}" width="11" height="11" fill="{}"/>)", left, y - 10,
          color(order[i], 0));
      add(R"(<text x="{}" y="{:.0f}">{}: {:.0f} steps</text>)", left + 17, y, order[i],
          costs[static_cast<std::size_t>(order[i])]);
    }
    const double y =
        kTop + 30 +
        17 * static_cast<double>(std::min<std::size_t>(order.size(), kMaxLegendEntries));
    add(R"(<text x="{}" y="{:.0f}" fill="#444">black outline: split KV</text>)", left, y);
  }

  const PlanDrawing& drawing_;
  const std::string& title_;
  double line_height_, plot_height_;
  std::string text_;
};

}  // namespace

std::string plan_as_svg(const PlanDrawing& drawing, const std::string& title) {
  return SvgWriter(drawing, title).write();
}

}  // namespace quire::cli
