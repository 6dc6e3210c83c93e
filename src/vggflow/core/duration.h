#pragma once
// Times in the units that a person would use.

#include <string>

namespace vggflow {

/// "0.4 ms", "412 ms", "9.4 s", "42 s", "3 min 12 s", "2 h 05 min", "3 d 4 h",
/// "15 years"; "?" of what is no
/// number.
std::string duration_text(double seconds);

/// A rate: "12.5/s", and of less than one per second the time of each, "14 s each".
std::string rate_text(double per_second);

}  // namespace vggflow
