#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "vggflow/cli/commands.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/flow/precision.h"
#include "vggflow/kernels/transformer.h"
#include "vggflow/proofs/self_check.h"

namespace vggflow::cli {

bool check(const DeviceOptions& options) {
  const DeviceScope device(options);
  for (const auto& [key, value] : environment()) fmt::print("{:<18} {}\n", key, value);
  fmt::print("{:<18} {}\n", "device", device.description());
  fmt::print("{:<18} {} threads, kernels {}\n", "cpu", at::get_num_threads(),
             kernels::best_table().isa);
  fmt::print("{:<18} {}\n", "precision=auto", c10::toString(fast_dtype()));
  bool ok = true;
  double worst = 0;
  for (const CheckResult& r : self_check()) {
    fmt::print("  {:<34} error {:.1e}  bound {:.0e}  {}\n", r.name, r.error, r.bound,
               r.ok() ? "ok" : "FAILED");
    ok = ok && r.ok();
    worst = std::max(worst, r.error / r.bound);
  }
  fmt::print("worst error: {:.2f} of its bound; {}\n", worst,
             ok ? "everything holds" : "this installation computes wrong results");
  return ok;
}

}  // namespace vggflow::cli
