#pragma once
// Small SVG charts for the report: no script, colours from CSS variables so that they follow light
// and dark.

#include <string>
#include <vector>

namespace vggflow {

struct Point {
  double x = 0, y = 0;
  double error = 0;        ///< standard error of y: a band along the line
  std::string label = {};  ///< shown on hover, and beside the point in a trajectory
  double x_error = 0;      ///< standard error of x: with it, both errors are bars
};

struct Series {
  std::string name;
  std::vector<Point> points;
  bool dashed = false;  ///< a reference level, such as a floor
  int colour = -1;      ///< place in the palette of kColours; -1 takes the series' own place
  bool line = true;     ///< false: dots only
  bool dots = true;     ///< false: the line only
  bool faint = false;   ///< dots in the background
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_y = false;
  bool connect = true;  ///< lines between points
  bool mark = true;     ///< dots at points
  bool legend = true;   ///< names above the chart; without, the page around it has them
};

/// Colours of the palette, s0 to s7 in the page's style.
constexpr size_t kColours = 10;

/// A line or trajectory chart; points that are not finite are left out, on a logarithmic axis also
/// those that are not positive.
std::string chart_svg(const Chart& chart);

struct Bar {
  std::string name;
  double value;
};
/// Horizontal bars with their values, "12.3 s".
std::string bars_svg(const std::string& title, const std::vector<Bar>& bars,
                     const std::string& unit);

/// Round numbers (1, 2 or 5 times a power of ten apart) within [low, high].
std::vector<double> nice_ticks(double low, double high, int count);

/// Round numbers within [10^low, 10^high], as powers of ten: whole decades, or 1-2-5 where there
/// are fewer than two decades.
std::vector<double> log_ticks(double low, double high);

/// Text with &, <, > and quotes escaped.
std::string escape_html(const std::string& text);

}  // namespace vggflow
