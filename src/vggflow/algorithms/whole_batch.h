#pragma once
// What a method asks of the whole batch. An update sees one share of it, which may be all of it;
// what it computes of its own samples alone needs nothing of this.

#include <cstdint>
#include <functional>
#include <utility>

#include "vggflow/core/log.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

class WholeBatch {
 public:
  /// Rows of all shares in the order of samples, for this share's.
  using Gather = std::function<Tensor(const Tensor& rows)>;

  /// This share is the whole batch: every call gives what it is given.
  WholeBatch() = default;
  explicit WholeBatch(Gather gather) : gather_(std::move(gather)) {}

  // All shares make the calls below in the same order, also those that have nothing to add.

  /// The rows (M, ...) of all shares, in the order of samples.
  Tensor rows(const Tensor& own) const;
  /// The sum over shares.
  double sum(double own) const;
  int64_t count(int64_t own) const;
  /// The mean over the elements of all shares.
  double mean(const Tensor& own) const;
  /// A quantile (0 to 1) of the values (M) of all shares.
  double quantile(const Tensor& own, double q) const;
  /// A quantile (K) of each column of the rows (M, K) of all shares.
  Tensor quantiles(const Tensor& own, double q) const;

  /// Seconds that this share has waited for others so far.
  double seconds_away() const { return away_; }

 private:
  Gather gather_;
  mutable double away_ = 0;
};

/// Times the phases of an update without the turns of other shares.
class PhaseWatch {
 public:
  explicit PhaseWatch(const WholeBatch& whole) : whole_(whole), away_(whole.seconds_away()) {}
  /// Seconds since construction or the last lap.
  double lap();

 private:
  const WholeBatch& whole_;
  double away_;
  Stopwatch watch_;
};

}  // namespace vggflow
