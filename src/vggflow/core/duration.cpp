#include "vggflow/core/duration.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

namespace vggflow {

std::string duration_text(double seconds) {
  constexpr int64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  constexpr double kLongest = 1e12;  // beyond it the whole seconds would be no number
  if (!std::isfinite(seconds) || seconds > kLongest) return "?";
  if (seconds <= 0) return "0 s";
  if (seconds < 0.0095) return fmt::format("{:.1f} ms", 1e3 * seconds);
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", 1e3 * seconds);
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const int64_t s = std::llround(seconds);
  if (s < kMinute) return fmt::format("{} s", s);
  if (s < kHour) return fmt::format("{} min {:02} s", s / kMinute, s % kMinute);
  const int64_t minutes = std::llround(seconds / kMinute);
  if (minutes * kMinute < kDay)
    return fmt::format("{} h {:02} min", minutes / kMinute, minutes % kMinute);
  const int64_t hours = std::llround(seconds / kHour);
  constexpr int64_t kYear = 365 * 24;
  if (hours >= 2 * kYear)
    return fmt::format("{:.0f} years", static_cast<double>(hours) / static_cast<double>(kYear));
  return fmt::format("{} d {} h", hours / 24, hours % 24);
}

std::string rate_text(double per_second) {
  if (!(per_second > 0)) return "?";
  return per_second >= 1 ? fmt::format("{:.1f}/s", per_second)
                         : duration_text(1 / per_second) + " each";
}

}  // namespace vggflow
