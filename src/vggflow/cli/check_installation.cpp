#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <vector>

#include "vggflow/cli/checks.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/flow/precision.h"
#include "vggflow/kernels/transformer.h"
#include "vggflow/proofs/device_check.h"
#include "vggflow/proofs/self_check.h"

namespace vggflow::cli {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// What the plug-in knows of the card, and the ceilings that a run's speed is a share of.
void print_card(at::Device device) {
  std::array<char, 512> text{};
  const auto* api = cuda_api();
  if (api && !api->describe(device.index(), text.data(), text.size()))
    fmt::print("{:<18} {}\n", "card", text.data());
  device::CudaMemory memory{};
  if (api && !api->memory(device.index(), &memory))
    fmt::print("{:<18} {:.1f} of {:.1f} GiB free\n", "memory",
               static_cast<double>(memory.free) / kGib, static_cast<double>(memory.total) / kGib);
  const DeviceSpeed speed = device_speed(device);
  fmt::print("{:<18} {:.0f} TFLOP/s (bf16 product of {}^3), {:.0f} GB/s (copy, read and write)\n",
             "speed", speed.tflops, speed.side, speed.gbytes);
}

}  // namespace

bool check_installation(const DeviceScope& device) {
  for (const auto& [key, value] : environment()) fmt::print("{:<18} {}\n", key, value);
  fmt::print("{:<18} {}\n", "device", device.description());
  fmt::print("{:<18} {} threads, kernels {}\n", "cpu", at::get_num_threads(),
             kernels::best_table().isa);
  fmt::print("{:<18} {}\n", "precision=auto", c10::toString(fast_dtype()));
  std::vector<CheckResult> results = self_check();
  if (!device.device().is_cpu()) {
    print_card(device.device());
    for (CheckResult& r : device_check(device.device())) results.push_back(std::move(r));
  }
  bool ok = true;
  double worst = 0;
  for (const CheckResult& r : results) {
    fmt::print("  {:<44} error {:.1e}  bound {:.0e}  {}\n", r.name, r.error, r.bound,
               r.ok() ? "ok" : "FAILED");
    ok = ok && r.ok();
    worst = std::max(worst, r.error / r.bound);
  }
  fmt::print("worst error: {:.2f} of its bound; {}\n", worst,
             ok ? "everything holds" : "this installation computes wrong results");
  return ok;
}

}  // namespace vggflow::cli
