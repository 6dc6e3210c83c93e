#pragma once
// What NVIDIA's driver tells of its cards, asked through its C interface at run time: the program
// is neither compiled nor linked against CUDA.

#include <string>

namespace vggflow::device {

/// Why CUDA cannot be had, and what to do about it; both empty where it can.
struct Problem {
  std::string what = {}, remedy = {};
};

/// Opens `file`, the driver's library, and looks for a card.
Problem open_driver(const std::string& file);
/// The newest CUDA that the driver serves, 13000 for 13.0; 0 before open_driver.
int driver_cuda_version();
/// "NVIDIA H100 80GB HBM3, 79.1 GiB, compute capability 9.0, driver for CUDA 13.0".
std::string describe_card(int index);
/// Whether the card's tensor cores take bf16 (compute capability 8.0).
bool card_multiplies_bf16(int index);

}  // namespace vggflow::device
