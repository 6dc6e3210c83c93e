#include "vggflow/eval/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace vggflow {
namespace {

constexpr double kWidth = 420, kHeight = 260, kLeft = 58, kRight = 14, kTop = 34, kBottom = 42;

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void include(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

double y_value(const Chart& chart, double y) { return chart.log_y ? std::log10(std::max(y, 1e-12)) : y; }

// Maps data to the drawing area.
struct Scale {
  Scale(Extent x, Extent y) {
    const auto widen = [](Extent e) {
      if (e.low > e.high) return Extent{0, 1};
      const double pad = e.high > e.low ? 0.06 * (e.high - e.low) : std::max(1e-9, 0.1 * std::abs(e.high));
      return Extent{e.low - pad, e.high + pad};
    };
    ex = widen(x);
    ey = widen(y);
  }
  double x(double v) const { return kLeft + (v - ex.low) / (ex.high - ex.low) * (kWidth - kLeft - kRight); }
  double y(double v) const { return kHeight - kBottom - (v - ey.low) / (ey.high - ey.low) * (kHeight - kTop - kBottom); }
  Extent ex, ey;
};

Scale scale_of(const Chart& chart) {
  Extent x, y;
  for (const Series& s : chart.series) {
    for (const Point& p : s.points) {
      x.include(p.x);
      y.include(y_value(chart, p.y - (chart.log_y ? 0 : p.error)));
      y.include(y_value(chart, p.y + p.error));
    }
  }
  return {x, y};
}

std::string axes(const Chart& chart, const Scale& scale) {
  std::string out;
  for (const double t : nice_ticks(scale.ey.low, scale.ey.high, 5)) {
    const double y = scale.y(t);
    out += fmt::format("<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/><text class='tick' x='{}' y='{:.1f}' text-anchor='end'>{}</text>",
                       kLeft, kWidth - kRight, y, y, kLeft - 6, y + 4, chart.log_y ? fmt::format("{:.1e}", std::pow(10, t)) : fmt::format("{:.6g}", t));
  }
  for (const double t : nice_ticks(scale.ex.low, scale.ex.high, 6)) {
    out += fmt::format("<text class='tick' x='{:.1f}' y='{}' text-anchor='middle'>{:.6g}</text>", scale.x(t), kHeight - kBottom + 16, t);
  }
  out += fmt::format("<text class='title' x='{}' y='18'>{}</text>", kLeft, escape_html(chart.title));
  out += fmt::format("<text class='label' x='{}' y='{}' text-anchor='middle'>{}</text>", (kLeft + kWidth) / 2, kHeight - 8, escape_html(chart.x_label));
  out += fmt::format("<text class='label' transform='translate(12,{}) rotate(-90)' text-anchor='middle'>{}</text>", kHeight / 2,
                     escape_html(chart.y_label));
  return out;
}

std::string series_svg(const Chart& chart, const Series& s, size_t colour, const Scale& scale) {
  std::string path, marks;
  for (const Point& p : s.points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
    const double x = scale.x(p.x), y = scale.y(y_value(chart, p.y));
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "M" : " L", x, y);
    if (p.error > 0) {
      marks += fmt::format("<line class='s{}' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", colour, x, x, scale.y(y_value(chart, p.y - p.error)),
                           scale.y(y_value(chart, p.y + p.error)));
    }
    if (!chart.mark || s.dashed) continue;
    marks += fmt::format("<circle class='f{}' cx='{:.1f}' cy='{:.1f}' r='3.2'><title>{}</title></circle>", colour, x, y,
                         escape_html(p.label.empty() ? fmt::format("{}: {:.6g} at {:.6g}", s.name, p.y, p.x) : p.label));
    if (!chart.x_label.empty() && chart.connect && !p.label.empty()) {
      marks += fmt::format("<text class='tick' x='{:.1f}' y='{:.1f}'>{}</text>", x + 6, y - 5, escape_html(p.label));
    }
  }
  const std::string line =
      chart.connect && !path.empty() ? fmt::format("<path class='s{}{}' d='{}'/>", colour, s.dashed ? " dashed" : "", path) : "";
  return line + marks;
}

std::string legend(const Chart& chart) {
  if (chart.series.size() < 2) return "";
  std::string out;
  double x = kLeft + 18 + 7.4 * static_cast<double>(chart.title.size());
  for (size_t i = 0; i < chart.series.size(); ++i) {
    out += fmt::format("<line class='s{}{}' x1='{}' x2='{}' y1='14' y2='14'/><text class='tick' x='{}' y='18'>{}</text>", i % 6,
                       chart.series[i].dashed ? " dashed" : "", x, x + 16, x + 20, escape_html(chart.series[i].name));
    x += 28 + 6.2 * static_cast<double>(chart.series[i].name.size());
  }
  return out;
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::vector<double> nice_ticks(double low, double high, int count) {
  const double raw = (high - low) / std::max(1, count);
  if (!(raw > 0) || !std::isfinite(raw)) return {low};
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double unit = raw / power;
  const double step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double t = std::ceil(low / step) * step; t <= high + 1e-9 * step; t += step) ticks.push_back(std::abs(t) < 1e-9 * step ? 0 : t);
  return ticks;
}

std::string chart_svg(const Chart& chart) {
  const Scale scale = scale_of(chart);
  std::string out = fmt::format("<svg class='chart' viewBox='0 0 {} {}' role='img' aria-label='{}'>", kWidth, kHeight, escape_html(chart.title));
  out += axes(chart, scale);
  for (size_t i = 0; i < chart.series.size(); ++i) out += series_svg(chart, chart.series[i], i % 6, scale);
  return out + legend(chart) + "</svg>";
}

std::string bars_svg(const std::string& title, const std::vector<Bar>& bars, const std::string& unit) {
  double top = 1e-12;
  for (const Bar& b : bars) top = std::max(top, b.value);
  const double height = kTop + 26 * static_cast<double>(bars.size()) + 8;
  std::string out = fmt::format("<svg class='chart' viewBox='0 0 {} {}' role='img' aria-label='{}'><text class='title' x='8' y='18'>{}</text>", kWidth,
                                height, escape_html(title), escape_html(title));
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kTop + 26 * static_cast<double>(i), width = std::max(1.0, 230 * bars[i].value / top);
    out += fmt::format("<text class='label' x='92' y='{:.0f}' text-anchor='end'>{}</text><rect class='f{}' x='100' y='{:.0f}' width='{:.1f}' height='16' rx='2'/>"
                       "<text class='tick' x='{:.1f}' y='{:.0f}'>{:.3g} {}</text>",
                       y + 13, escape_html(bars[i].name), i % 6, y, width, 106 + width, y + 13, bars[i].value, unit);
  }
  return out + "</svg>";
}

}  // namespace vggflow
