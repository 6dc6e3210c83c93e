#pragma once
// The tables of a comparison as data: comparison_report.cpp shows them as HTML and as Markdown.

#include <string>
#include <vector>

#include "vggflow/experiments/grid_run.h"

namespace vggflow {

struct ReportTable {
  std::string title, note;
  std::vector<std::string> head;
  struct Row {
    std::vector<std::string> cells;
    int arm = -1;         ///< its colour; -1 has none
    bool chosen = false;  ///< set off from the rows around it
  };
  std::vector<Row> rows;
};

/// What is there, arm by arm: the runs that the tables are made from.
struct ComparisonView {
  explicit ComparisonView(const ComparisonData& from);
  const ComparisonData& data;
  std::vector<std::vector<const RunResult*>>
      runs;                           ///< of each arm's chosen setting, on the comparison's seeds
  std::vector<const RunResult*> all;  ///< the same in one list
  Point2 edge;                        ///< the hypervolumes' box
  const RunResult* first() const { return all.empty() ? nullptr : all.front(); }
  const std::string& name(size_t arm) const { return data.config.arms[arm].name; }
};

/// "1.23 ± 0.04"; without the error where there is one value, "–" where there is none.
std::string shown(const Spread& s, int digits, double factor = 1);

/// A metric of each arm's runs at their last evaluation.
Spread at_last(const std::vector<const RunResult*>& runs, Metric metric);

ReportTable last_update_table(const ComparisonView& view);
/// The reward panel of the last evaluations; no rows where the runs have none.
ReportTable panel_table(const ComparisonView& view);
/// Every arm at the largest reward that all reach, and at each reward where an arm has lost half of
/// the diversity.
std::vector<ReportTable> equal_reward_tables(const ComparisonView& view);
ReportTable hypervolume_table(const ComparisonView& view);
ReportTable cost_table(const ComparisonView& view);
ReportTable tuning_table(const ComparisonView& view);

/// What a reader must know before the numbers: failures, what is missing, what makes arms unequal.
std::vector<std::string> comparison_warnings(const ComparisonView& view);

}  // namespace vggflow
