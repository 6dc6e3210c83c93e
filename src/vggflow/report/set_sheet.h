#pragma once
// The HTML sheet of a comparison of image sets: figures with their errors, prompts with their
// changes, images side by side.

#include <optional>
#include <string>

#include "vggflow/data/prompt_sets.h"
#include "vggflow/metrics/set_metrics.h"

namespace vggflow {

/// A self-contained page; `a` and `b` are the sets that were measured, for pictures.
std::string comparison_sheet(const SetComparison& comparison, const ImageSet& a,
                             const std::optional<ImageSet>& b,
                             const std::optional<PromptOverlap>& overlap);

/// What the check of prompts says, as HTML and as JSON: for any report.
std::string overlap_html(const PromptOverlap& overlap);
Json overlap_json(const PromptOverlap& overlap);

}  // namespace vggflow
