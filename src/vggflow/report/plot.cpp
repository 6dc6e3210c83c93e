#include "vggflow/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace vggflow {
namespace {

constexpr double kWidth = 420, kHeight = 270, kLeft = 62, kRight = 14, kTop = 46, kBottom = 42,
                 kBarsTop = 34;

struct Extent {
  double low = std::numeric_limits<double>::infinity(),
         high = -std::numeric_limits<double>::infinity();
  void include(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

// Not finite where a logarithmic axis cannot show y.
double y_value(const Chart& chart, double y) { return chart.log_y ? std::log10(y) : y; }

bool is_shown(const Chart& chart, const Point& p) {
  return std::isfinite(p.x) && std::isfinite(y_value(chart, p.y));
}

// Maps data to the drawing area.
struct Scale {
  Scale(Extent x, Extent y) {
    const auto widen = [](Extent e) {
      if (e.low > e.high) return Extent{0, 1};
      const double pad =
          e.high > e.low ? 0.06 * (e.high - e.low) : (e.high == 0 ? 1 : 0.1 * std::abs(e.high));
      return Extent{e.low - pad, e.high + pad};
    };
    ex = widen(x);
    ey = widen(y);
  }
  double x(double v) const {
    return kLeft + (v - ex.low) / (ex.high - ex.low) * (kWidth - kLeft - kRight);
  }
  double y(double v) const {
    return kHeight - kBottom - (v - ey.low) / (ey.high - ey.low) * (kHeight - kTop - kBottom);
  }
  Extent ex, ey;
};

Scale scale_of(const Chart& chart) {
  Extent x, y;
  for (const Series& s : chart.series) {
    for (const Point& p : s.points) {
      if (!is_shown(chart, p)) continue;
      for (const double v : {p.x, p.x - p.x_error, p.x + p.x_error}) x.include(v);
      for (const double v : {p.y, p.y - p.error, p.y + p.error}) y.include(y_value(chart, v));
    }
  }
  return {x, y};
}

std::string axes(const Chart& chart, const Scale& scale) {
  std::string out;
  for (const double t : chart.log_y ? log_ticks(scale.ey.low, scale.ey.high)
                                    : nice_ticks(scale.ey.low, scale.ey.high, 6)) {
    const double y = scale.y(t);
    out += fmt::format(
        "<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/><text class='tick' x='{}' "
        "y='{:.1f}' text-anchor='end'>{}</text>",
        kLeft, kWidth - kRight, y, y, kLeft - 6, y + 4,
        fmt::format("{:.6g}", chart.log_y ? std::pow(10, t) : t));
  }
  for (const double t : nice_ticks(scale.ex.low, scale.ex.high, 6)) {
    out += fmt::format("<text class='tick' x='{:.1f}' y='{}' text-anchor='middle'>{:.6g}</text>",
                       scale.x(t), kHeight - kBottom + 16, t);
  }
  out +=
      fmt::format("<text class='title' x='{}' y='18'>{}</text>", kLeft, escape_html(chart.title));
  out += fmt::format("<text class='label' x='{}' y='{}' text-anchor='middle'>{}</text>",
                     (kLeft + kWidth) / 2, kHeight - 8, escape_html(chart.x_label));
  out += fmt::format(
      "<text class='label' transform='translate(12,{}) rotate(-90)' text-anchor='middle'>{}</text>",
      kHeight / 2, escape_html(chart.y_label));
  return out;
}

size_t colour_of(const Series& s, size_t place) {
  return (s.colour < 0 ? place : static_cast<size_t>(s.colour)) % kColours;
}

std::string line_svg(double x1, double x2, double y1, double y2, size_t colour) {
  return fmt::format("<line class='s{}' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", colour,
                     x1, x2, y1, y2);
}

// One standard error on either side: a band along a line, bars where x has an error too.
std::string errors_svg(const Chart& chart, const std::vector<Point>& points, size_t colour,
                       const Scale& scale) {
  std::string upper, lower, bars;
  bool band = false;
  for (const Point& p : points) {
    const double x = scale.x(p.x),
                 error = p.error > 0 && std::isfinite(y_value(chart, p.y - p.error)) ? p.error : 0;
    const double top = scale.y(y_value(chart, p.y + error)),
                 bottom = scale.y(y_value(chart, p.y - error));
    if (p.x_error > 0) {
      bars += line_svg(x, x, top, bottom, colour);
      bars += line_svg(scale.x(p.x - p.x_error), scale.x(p.x + p.x_error),
                       scale.y(y_value(chart, p.y)), scale.y(y_value(chart, p.y)), colour);
    }
    band = band || error > 0;
    upper += fmt::format("{}{:.1f},{:.1f}", upper.empty() ? "M" : " L", x, top);
    lower.insert(0, fmt::format(" L{:.1f},{:.1f}", x, bottom));
  }
  if (!bars.empty()) return "<g class='bars'>" + bars + "</g>";
  if (!band) return "";
  if (points.size() > 1)
    return fmt::format("<path class='f{} band' d='{}{} Z'/>", colour, upper, lower);
  const Point& p = points.front();
  return line_svg(scale.x(p.x), scale.x(p.x), scale.y(y_value(chart, p.y + p.error)),
                  scale.y(y_value(chart, p.y - p.error)), colour);
}

std::string hover(const Series& s, const Point& p) {
  if (!p.label.empty()) return p.label;
  return fmt::format("{}: {:.6g}{} at {:.6g}", s.name, p.y,
                     p.error > 0 ? fmt::format(" ± {:.2g}", p.error) : "", p.x);
}

std::string series_svg(const Chart& chart, const Series& s, size_t colour, const Scale& scale) {
  std::vector<Point> points;
  std::copy_if(s.points.begin(), s.points.end(), std::back_inserter(points),
               [&](const Point& p) { return is_shown(chart, p); });
  std::string path, marks;
  for (const Point& p : points) {
    const double x = scale.x(p.x), y = scale.y(y_value(chart, p.y));
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "M" : " L", x, y);
    if (!chart.mark || s.dashed || !s.dots) continue;
    marks += fmt::format(
        "<circle class='f{}{}' cx='{:.1f}' cy='{:.1f}' r='3.2'><title>{}</title></circle>", colour,
        s.faint ? " faint" : "", x, y, escape_html(hover(s, p)));
    if (!p.label.empty())
      marks += fmt::format("<text class='tick' x='{:.1f}' y='{:.1f}'>{}</text>", x + 6, y - 5,
                           escape_html(p.label));
  }
  const std::string line =
      chart.connect && s.line && !path.empty()
          ? fmt::format("<path class='s{}{}' d='{}'/>", colour, s.dashed ? " dashed" : "", path)
          : "";
  return errors_svg(chart, points, colour, scale) + line + marks;
}

std::string legend(const Chart& chart) {
  if (chart.series.size() < 2 || !chart.legend) return "";
  std::string out;
  double x = kLeft;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    out += fmt::format(
        "<line class='s{}{}' x1='{}' x2='{}' y1='31' y2='31'/><text class='tick' x='{}' "
        "y='34.5'>{}</text>",
        colour_of(chart.series[i], i), chart.series[i].dashed ? " dashed" : "", x, x + 16, x + 20,
        escape_html(chart.series[i].name));
    x += 28 + 6.2 * static_cast<double>(chart.series[i].name.size());
  }
  return out;
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:  // control signs have no place in a page, but for the white ones
        out += static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t' ? '?' : c;
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
  for (double t = std::ceil(low / step) * step; t <= high + 1e-9 * step; t += step)
    ticks.push_back(std::abs(t) < 1e-9 * step ? 0 : t);
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  if (high - low >= 2) {
    const double step = std::ceil((high - low) / 6);
    for (double t = std::ceil(low / step) * step; t <= high; t += step) ticks.push_back(t);
    return ticks;
  }
  for (double decade = std::floor(low); decade <= high; ++decade) {
    for (const double m : {1.0, 2.0, 5.0}) {
      const double t = decade + std::log10(m);
      if (t >= low && t <= high) ticks.push_back(t);
    }
  }
  if (ticks.size() > 1) return ticks;
  ticks = nice_ticks(std::pow(10, low), std::pow(10, high), 4);  // too narrow for 1-2-5
  for (double& t : ticks) t = std::log10(t);
  return ticks;
}

std::string chart_svg(const Chart& chart) {
  const Scale scale = scale_of(chart);
  std::string out =
      fmt::format("<svg class='chart' viewBox='0 0 {} {}' role='img' aria-label='{}'>", kWidth,
                  kHeight, escape_html(chart.title));
  out += axes(chart, scale);
  for (size_t i = 0; i < chart.series.size(); ++i)
    out += series_svg(chart, chart.series[i], colour_of(chart.series[i], i), scale);
  return out + legend(chart) + "</svg>";
}

std::string bars_svg(const std::string& title, const std::vector<Bar>& bars,
                     const std::string& unit) {
  double top = 1e-12;
  for (const Bar& b : bars) top = std::max(top, b.value);
  const double height = kBarsTop + 26 * static_cast<double>(bars.size()) + 8;
  std::string out = fmt::format(
      "<svg class='chart' viewBox='0 0 {} {}' role='img' aria-label='{}'><text class='title' x='8' "
      "y='18'>{}</text>",
      kWidth, height, escape_html(title), escape_html(title));
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kBarsTop + 26 * static_cast<double>(i),
                 width = std::max(1.0, 230 * bars[i].value / top);
    out += fmt::format(
        "<text class='label' x='92' y='{:.0f}' text-anchor='end'>{}</text><rect class='f{}' "
        "x='100' y='{:.0f}' width='{:.1f}' height='16' rx='2'/>"
        "<text class='tick' x='{:.1f}' y='{:.0f}'>{:.3g} {}</text>",
        y + 13, escape_html(bars[i].name), i % kColours, y, width, 106 + width, y + 13,
        bars[i].value, unit);
  }
  return out + "</svg>";
}

}  // namespace vggflow
