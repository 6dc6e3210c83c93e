#pragma once
// A nano model's folder written again: with LoRA adapters merged, or in another number format.

#include <filesystem>

#include "vggflow/weights/merged_model.h"

namespace vggflow {

/// Writes the model of `folder` to the folder `out` and reads it back: everything but the rounding
/// must be exact, no change of an adapter may vanish in it, and the network's output is held
/// against that of base and adapters. Throws where `out` exists or reads as the name of a file;
/// then nothing is left behind.
WrittenModel write_nano(const std::filesystem::path& folder, const std::filesystem::path& out,
                        const ModelCopy& copy);

}  // namespace vggflow
