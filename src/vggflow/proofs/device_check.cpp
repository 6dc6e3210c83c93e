#include "vggflow/proofs/device_check.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "vggflow/ops/kernel_check.h"

namespace vggflow {
namespace {

// Median seconds of one call among `rounds`, each of several calls behind one wait.
double median_seconds(at::Device device, const std::function<void()>& work) {
  constexpr int kRounds = 5, kCalls = 10;
  const auto seconds = [&] {
    at::accelerator::synchronizeDevice(device.index());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) work();
    at::accelerator::synchronizeDevice(device.index());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kCalls;
  };
  seconds();
  std::vector<double> all(kRounds);
  std::generate(all.begin(), all.end(), seconds);
  std::nth_element(all.begin(), all.begin() + kRounds / 2, all.end());
  return all[kRounds / 2];
}

}  // namespace

std::vector<CheckResult> device_check(at::Device device) {
  std::vector<CheckResult> results;
  for (const ops::KernelError& e : ops::kernel_check(device))
    results.push_back({e.name, e.error, e.bound});
  return results;
}

DeviceSpeed device_speed(at::Device device) {
  constexpr int64_t n = 8192, bytes = int64_t{1} << 30;
  const at::NoGradGuard no_graph;
  const auto bf16 = at::device(device).dtype(at::kBFloat16);
  const at::Tensor a = at::randn({n, n}, bf16), b = at::randn({n, n}, bf16);
  at::Tensor c = at::empty({n, n}, bf16);
  const double product = median_seconds(device, [&] { at::mm_out(c, a, b); });
  const at::Tensor from = at::zeros({bytes}, at::device(device).dtype(at::kByte));
  at::Tensor to = at::empty_like(from);
  const double copy = median_seconds(device, [&] { to.copy_(from); });
  return {2.0 * n * n * n / product * 1e-12, 2.0 * static_cast<double>(bytes) / copy * 1e-9};
}

}  // namespace vggflow
