#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "vggflow/cli/checks.h"
#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/proofs/analytic_suite.h"
#include "vggflow/report/plot.h"

namespace vggflow::cli {
namespace {

Chart chart_of(const AnalyticFigure& figure) {
  constexpr size_t kMostMarks = 30;
  Chart chart{figure.title, figure.x_label, figure.y_label, {}, figure.log_y};
  for (const AnalyticSeries& s : figure.series) {
    Series series{s.name, {}, s.dashed};
    for (size_t i = 0; i < s.x.size(); ++i) series.points.push_back({.x = s.x[i], .y = s.y[i]});
    chart.mark = chart.mark && s.x.size() <= kMostMarks;
    chart.series.push_back(series);
  }
  return chart;
}

// A report's page gives its charts their colours; a file of its own needs namespace, size and
// style.
std::string standalone(const std::string& svg) {
  constexpr const char* kStyle =
      "<style>text{fill:#1d1d1f;font:11px "
      "system-ui,sans-serif}.title{font-size:13px;font-weight:600}"
      ".tick{fill:#6b6b70;font-size:10px}.grid{stroke:#e2e0da}path,line{fill:none;stroke-width:1.8}"
      ".dashed{stroke-dasharray:5 4}"
      ".s0{stroke:#2563eb}.s1{stroke:#d9480f}.s2{stroke:#2b8a3e}.s3{stroke:#9c36b5}.s4{stroke:#"
      "0c8599}.s5{stroke:#a07000}"
      ".f0{fill:#2563eb}.f1{fill:#d9480f}.f2{fill:#2b8a3e}.f3{fill:#9c36b5}.f4{fill:#0c8599}.f5{"
      "fill:#a07000}</style><rect width='100%' height='100%' fill='#fff'/>";
  constexpr std::string_view kOpen = "<svg ";
  const size_t end = svg.find('>');
  VGGFLOW_CHECK(svg.starts_with(kOpen) && end != std::string::npos,
                "[check] expected a chart that opens with '<svg ', got '{}'", svg.substr(0, 20));
  return "<svg xmlns='http://www.w3.org/2000/svg' width='640' " +
         svg.substr(kOpen.size(), end + 1 - kOpen.size()) + kStyle + svg.substr(end + 1) + "\n";
}

void write_figures(const AnalyticReport& report, const std::filesystem::path& folder) {
  make_writable_folder(folder);
  for (const AnalyticFigure& figure : report.figures) {
    write_text(folder / (figure.file + ".svg"), standalone(chart_svg(chart_of(figure))));
    fmt::print("wrote {}\n", (folder / (figure.file + ".svg")).string());
  }
}

std::vector<AnalyticClaim> claims_of(const std::vector<std::string>& texts) {
  std::vector<AnalyticClaim> chosen;
  std::vector<std::string> names;
  for (const AnalyticClaim& claim : analytic_claims()) {
    names.push_back(claim.sentence);
    const bool named = std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
      return claim.sentence.find(text) != std::string::npos;
    });
    if (texts.empty() || named) chosen.push_back(claim);
  }
  VGGFLOW_CHECK(!chosen.empty(), "[check] expected claims=[...] with a part of a name, such as {}",
                examples_of(names));
  return chosen;
}

}  // namespace

bool check_analytic(const std::string& figures, const std::vector<std::string>& claims) {
  Stopwatch watch;
  size_t shown = 0, failed = 0;
  AnalyticReport report;
  const std::vector<AnalyticClaim> chosen = claims_of(claims);
  for (const AnalyticClaim& claim : chosen) {
    fmt::print("{}\n", claim.sentence);
    claim.run(report);
    for (; shown < report.results.size(); ++shown) {
      const AnalyticResult& r = report.results[shown];
      failed += r.ok ? 0 : 1;
      fmt::print("  {:<74} {:>10.2e} {} {:<6g} {}{}\n", r.name, r.value, r.relation, r.bound,
                 r.ok ? "ok" : "FAILED", r.note.empty() ? "" : "  " + r.note);
    }
    std::fflush(stdout);
  }
  if (!figures.empty()) write_figures(report, figures);
  fmt::print("{} claims, {} numbers, {} outside their bounds, {:.0f} s\n", chosen.size(),
             report.results.size(), failed, watch.seconds());
  return failed == 0;
}

}  // namespace vggflow::cli
