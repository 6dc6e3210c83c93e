#pragma once
// Several ranks in one process.

#include <functional>

#include "vggflow/dist/group.h"

namespace vggflow::testing {

/// Calls body for every rank of a group of `size`, each on a thread of its own, and waits for all.
/// What a rank throws ends the others, as with processes, and is thrown on: the lowest rank's of
/// those that were not ended by another.
void on_threads(int size, const std::function<void(const Group& group)>& body);

}  // namespace vggflow::testing
