#pragma once
// When a mean change over few prompts is more than chance.

#include <cstdint>

#include "vggflow/metrics/metrics.h"

namespace vggflow {

/// t with P(|T| <= t) = level of Student's distribution: 12.71 for one degree of freedom at 95 %,
/// 1.96 in the limit. Exact, by the finite series of integer degrees (Abramowitz & Stegun 26.7.3,
/// 26.7.4). 0 < level < 1, degrees >= 1.
double student_quantile(double level, int64_t degrees);

/// Changes over fewer values than these are no ground for a warning.
constexpr int64_t kLeastValues = 5;

/// Whether a mean change lies below zero by more than chance makes of `change.n` values: the
/// two-sided t test at 5 %. False without an error, and of fewer than `least` values.
bool fell_beyond_chance(const Estimate& change, int64_t least = kLeastValues);

}  // namespace vggflow
