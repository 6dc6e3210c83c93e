#pragma once
// What commands do that may be started as several processes (docs/distributed.md).

#include <functional>
#include <memory>

#include "vggflow/core/command_line.h"
#include "vggflow/core/config.h"
#include "vggflow/device/device.h"
#include "vggflow/dist/group.h"
#include "vggflow/dist/options.h"
#include "vggflow/dist/place.h"

namespace vggflow::cli {

/// A process of several sees the one GPU that is its own, where the device is not named.
void see_own_gpu(const Place& place);

/// The processes of `place`, met within options.timeout.
Group open_group(const Place& place, const DistOptions& options);

/// Throws where a launcher started several processes: all would do the whole of this command.
void require_one_process(const Call& call);

/// Calls work; what ends it ends the other processes too, which are told why, and names the rank.
int as_one_of(const Group& group, const std::function<int()>& work);

/// Calls work with the processes that the launcher started, on the command's device, once all agree
/// on program and settings. Rank 0 has the terminal.
int on_ranks(const DeviceOptions& device, const DistOptions& dist, const Fields& settings,
             const std::function<void(const Group& group)>& work);

}  // namespace vggflow::cli
