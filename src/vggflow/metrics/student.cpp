#include "vggflow/metrics/student.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// P(|T| <= t).
double probability_within(double t, int64_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees))),
               cosine = std::cos(angle), square = cosine * cosine;
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1, sum = 0;
  for (int64_t k = odd ? 3 : 2; k <= degrees; k += 2) {
    sum += term;
    term *= square * static_cast<double>(k - 1) / static_cast<double>(k);
  }
  return odd ? 2 / std::numbers::pi * (angle + std::sin(angle) * sum) : std::sin(angle) * sum;
}

}  // namespace

double student_quantile(double level, int64_t degrees) {
  VGGFLOW_CHECK(level > 0 && level < 1 && degrees >= 1,
                "[metrics] expected a level within (0, 1) and one degree of freedom at least, got "
                "{} and {}",
                level, degrees);
  constexpr int64_t kMost = 10000;  // beyond it the normal distribution is as near as 1e-4
  const int64_t n = std::min(degrees, kMost);
  double low = 0, high = 1;
  while (probability_within(high, n) < level) high *= 2;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (probability_within(middle, n) < level ? low : high) = middle;
  }
  return (low + high) / 2;
}

bool fell_beyond_chance(const Estimate& change, int64_t least) {
  if (!change.se || change.n < std::max<int64_t>(2, least)) return false;
  constexpr double kLevel = 0.95;
  return change.mean < -student_quantile(kLevel, change.n - 1) * *change.se;
}

}  // namespace vggflow
