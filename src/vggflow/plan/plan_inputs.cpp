// The devices that a plan is held against.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/plan/plan.h"

namespace vggflow {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

// FLOP/s of the best of a few products of 1024 x 1024.
double measured_rate(at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  constexpr int64_t kSide = 1024;
  const Tensor a = at::randn({kSide, kSide}).to(dtype), b = at::randn({kSide, kSide}).to(dtype);
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 6; ++i) {
    Stopwatch watch;
    at::matmul(a, b);
    best = std::min(best, watch.seconds());
  }
  return 2.0 * kSide * kSide * kSide / best;
}

double machine_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string key, unit; in >> key;) {
    double kib = 0;
    in >> kib;
    std::getline(in, unit);
    if (key == "MemTotal:") return kib * 1024;
  }
  fail("[plan] expected a line MemTotal in /proc/meminfo, got none");
}

}  // namespace

std::vector<Device> known_devices(const std::string& lacks) {
  // Dense peaks: bf16 989, 989, 312, 165 and TF32 494, 494, 156, 82 TFLOP/s; a transformer reaches
  // about 45 % of the first, convolutions 40 % of the second. Memory in MiB as nvidia-smi shows it
  // (A100: the one of 80 GB).
  constexpr double kMiB = kGiB / 1024;
  return {{"h100", 81559 * kMiB, 445e12, 198e12, lacks, true},
          {"h200", 143771 * kMiB, 445e12, 198e12, lacks, true},
          {"a100", 81920 * kMiB, 140e12, 62e12, lacks, true},
          {"4090", 24564 * kMiB, 74e12, 33e12, lacks, true}};
}

Device this_machine(at::ScalarType compute, double flops) {
  // What networks reach of a large product's rate: measured on alignment runs, docs/plan.md.
  constexpr double kNetwork = 0.5, kConvolutions = 0.4;
  const double half = flops > 0 ? flops : measured_rate(compute),
               full = flops > 0 ? flops : measured_rate(at::kFloat);
  return {"this machine", machine_memory(), kNetwork * half, kConvolutions * full};
}

}  // namespace vggflow
