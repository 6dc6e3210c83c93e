#pragma once
// What this installation can compute on, before anything is opened.

#include <string>

namespace vggflow::device {

/// What it lacks to compute on an NVIDIA card, wherever the card is; empty where it lacks nothing.
std::string missing_for_cuda();

/// For commands whose child processes will compute on `device` (DeviceOptions): throws where that
/// is CUDA and the driver, a card or LibTorch's CUDA library is missing. Opens the driver alone, so
/// that nothing is held on the card.
void require_installed(const std::string& device);

}  // namespace vggflow::device
