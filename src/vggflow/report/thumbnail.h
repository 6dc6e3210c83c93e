#pragma once
// Small pictures for HTML sheets, embedded.

#include <cstdint>
#include <string>

#include "vggflow/ops/dual.h"

namespace vggflow {

/// <img> of pixels (3, H, W) in [0, 1]: up to 64 pixels a side as they are (PNG), larger ones
/// shrunk to `side` on the longer side (JPEG).
std::string thumbnail(const Tensor& pixels, int64_t side, const std::string& description);

}  // namespace vggflow
