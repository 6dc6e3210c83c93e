#pragma once
// The report of a run: one HTML file that needs no network.

#include <filesystem>
#include <string>
#include <vector>

namespace vggflow {

/// Reads the run folder (docs/architecture.md) and writes run/report.html. A folder without
/// metrics.jsonl is an error; other parts that are missing are named in the report.
void write_report(const std::filesystem::path& run);

/// A Markdown table over finished runs (same settings, several seeds): mean and standard error over
/// runs of the base and final evaluation, the reward's gain in units of the base's spread within a
/// prompt, and the diversity kept. Runs of several rewards and unfinished ones are errors.
std::string comparison_markdown(const std::vector<std::filesystem::path>& runs);

}  // namespace vggflow
