#pragma once
// The published sizes of Stable Diffusion 3, for models that are not on this machine.

#include <string>

#include "vggflow/families/sd3/mmdit_options.h"

namespace vggflow {

/// Whether a name holds that of a release: "stable-diffusion-3-medium",
/// "stable-diffusion-3.5-medium" or "stable-diffusion-3.5-large".
bool is_sd3_release(const std::string& name);

/// What its transformer/config.json says; of any other name SD3-medium's.
MmditOptions sd3_release(const std::string& name);

}  // namespace vggflow
