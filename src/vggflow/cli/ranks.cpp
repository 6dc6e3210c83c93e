#include "vggflow/cli/ranks.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>

#include "vggflow/cli/command.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/dist/host_name.h"

namespace vggflow::cli {

void see_own_gpu(const Place& place) {
  if (place.size == 1) return;
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  ::setenv("CUDA_VISIBLE_DEVICES", own_gpu(given ? given : "", place.local_rank).c_str(), 1);
}

Group open_group(const Place& place, const DistOptions& options) {
  const device::CudaApi* const api = cuda_api();
  return Group::open(place, std::chrono::milliseconds(static_cast<int64_t>(1000 * options.timeout)),
                     {options.backend, api ? api->nccl : nullptr, current_device()});
}

void require_one_process(const Call& call) {
  const Place place = place_of_process();
  VGGFLOW_CHECK(place.size == 1,
                "[ranks] vggflow {} runs in one process, and {} started {}: start it without",
                call.command, place.launcher, place.size);
}

int as_one_of(const Group& group, const std::function<int()>& work) {
  try {
    return work();
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& e) {
    group.leave_word(e.what());
    if (group.size() == 1) throw;
    fail("{}{}", e.what(),
         std::string(e.what()).starts_with("[ranks]")
             ? ""
             : fmt::format(" (rank {} of {} on {})", group.rank(), group.size(), host_name()));
  }
}

int on_ranks(const DeviceOptions& device, const DistOptions& dist, const Fields& settings,
             const std::function<void(const Group& group)>& work) {
  const Place place = place_of_process();
  see_own_gpu(place);
  if (place.rank > 0) keep_off_terminal();
  const auto scope = open_device(device);
  const Group group = open_group(place, dist);
  return as_one_of(group, [&] {
    agree_on_settings(group, settings);
    work(group);
    return kDone;
  });
}

}  // namespace vggflow::cli
