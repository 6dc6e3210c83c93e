#pragma once
// What methods ask of the rollout's number of steps, so that a run can be refused before anything
// is loaded. The methods ask again in update().

#include <string>

#include "vggflow/algorithms/registry.h"

namespace vggflow {

/// Throws where there are more bins than steps.
void check_transitions(const TransitionOptions& options, int64_t steps);
/// Throws where K may be more than the steps.
void check_truncation(const DraftOptions& options, int64_t steps);
/// Throws where the window of steps is empty or reaches beyond the last.
void check_window(const ReflOptions& options, int64_t steps);

/// The check of the method of that name.
void check_steps(const std::string& method, const MethodOptions& options, int64_t steps);

}  // namespace vggflow
