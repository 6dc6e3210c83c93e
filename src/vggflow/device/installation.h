#pragma once
// What this installation can compute on, before anything is opened.

#include <string>

namespace vggflow::device {

/// What it lacks to compute on an NVIDIA card, wherever the card is; empty where it lacks nothing.
std::string missing_for_cuda();

}  // namespace vggflow::device
