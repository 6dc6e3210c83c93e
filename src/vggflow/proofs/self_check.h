#pragma once
// Proof that an installation computes what it should: fused kernels against plain float64 ops, and
// the network's directional derivative and gradient against central differences.

#include <string>
#include <vector>

namespace vggflow {

struct CheckResult {
  std::string name;
  double error;  ///< relative
  double bound;
  bool ok() const { return error <= bound; }
};

/// Runs in about a second on a CPU.
std::vector<CheckResult> self_check();

}  // namespace vggflow
