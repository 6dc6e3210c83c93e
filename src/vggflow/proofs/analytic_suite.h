#pragma once
// The analytic suite: what is claimed of the methods, each claim held against a problem whose
// answer is known otherwise (docs/analytic.md). In float64, well under a minute on one core.
// `vggflow check --analytic` prints it, algorithms_test runs each claim.

#include <functional>
#include <string>
#include <vector>

namespace vggflow {

/// One number and what it must be: below its bound, or above it ("the wrong estimator is seen").
struct AnalyticResult {
  std::string name;
  double value, bound;
  bool ok;
  std::string relation;  ///< "<" or ">"
  std::string note;
};

struct AnalyticSeries {
  std::string name;
  std::vector<double> x, y;
  bool dashed = false;
};

/// Data of a line chart.
struct AnalyticFigure {
  std::string file;  ///< name without extension
  std::string title, x_label, y_label;
  bool log_y = false;
  std::vector<AnalyticSeries> series;
};

struct AnalyticReport {
  std::vector<AnalyticResult> results;
  std::vector<AnalyticFigure> figures;
  void below(const std::string& name, double value, double bound, const std::string& note = "");
  void above(const std::string& name, double value, double bound, const std::string& note = "");
  bool ok() const;
};

/// A sentence and the computation that holds it against the truth.
struct AnalyticClaim {
  std::string sentence;  ///< one word of capitalised words: it is a test's name
  std::function<void(AnalyticReport&)> run;
};

/// All claims, in the order of docs/analytic.md.
const std::vector<AnalyticClaim>& analytic_claims();

/// Every claim.
AnalyticReport analytic_suite();

}  // namespace vggflow
