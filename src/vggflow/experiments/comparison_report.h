#pragma once
// The report of a comparison: OUT/report.html (self-contained), OUT/results.md (its tables) and
// OUT/results.csv (every evaluation).

#include <string>

#include "vggflow/experiments/grid_run.h"

namespace vggflow {

/// Writes the three files from what is there; what is missing is named in them.
void write_comparison_report(const ComparisonData& data);

/// One line per evaluation of every finished run: arm, setting, seed, whether it is in the tables,
/// update, seconds and memory so far, gain and diversity kept, and all of the evaluation's own
/// numbers by dotted name.
std::string results_csv(const ComparisonData& data);

}  // namespace vggflow
