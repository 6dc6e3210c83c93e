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

// Of a product of 512^3, whose start alone takes a GPU most of its time: what is slower than this
// would take minutes over the large one.
constexpr double kFastTflops = 2;

// Seconds of `calls` behind one wait.
double seconds_of(at::Device device, int calls, const std::function<void()>& work) {
  at::accelerator::synchronizeDevice(device.index());
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) work();
  at::accelerator::synchronizeDevice(device.index());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Median seconds of one call among five rounds of ten calls, after one round.
double median_seconds(at::Device device, const std::function<void()>& work) {
  constexpr int kRounds = 5, kCalls = 10;
  seconds_of(device, kCalls, work);
  std::vector<double> all(kRounds);
  std::generate(all.begin(), all.end(), [&] { return seconds_of(device, kCalls, work) / kCalls; });
  std::nth_element(all.begin(), all.begin() + kRounds / 2, all.end());
  return all[kRounds / 2];
}

double product_tflops(at::Device device, int64_t side) {
  const auto bf16 = at::device(device).dtype(at::kBFloat16);
  const at::Tensor a = at::randn({side, side}, bf16), b = at::randn({side, side}, bf16);
  at::Tensor c = at::empty({side, side}, bf16);
  const double seconds = median_seconds(device, [&] { at::mm_out(c, a, b); });
  return 2e-12 * static_cast<double>(side * side * side) / seconds;
}

double copy_gbytes(at::Device device, int64_t bytes) {
  const at::Tensor from = at::zeros({bytes}, at::device(device).dtype(at::kByte));
  at::Tensor to = at::empty_like(from);
  const double seconds = median_seconds(device, [&] { to.copy_(from); });
  return 2e-9 * static_cast<double>(bytes) / seconds;
}

}  // namespace

std::vector<CheckResult> device_check(at::Device device) {
  std::vector<CheckResult> results;
  for (const ops::KernelError& e : ops::kernel_check(device))
    results.push_back({e.name, e.error, e.bound});
  return results;
}

DeviceSpeed device_speed(at::Device device) {
  const at::NoGradGuard no_graph;
  const double small = product_tflops(device, 512);
  if (small < kFastTflops) return {small, copy_gbytes(device, int64_t{1} << 24), 512};
  return {product_tflops(device, 8192), copy_gbytes(device, int64_t{1} << 30), 8192};
}

}  // namespace vggflow
