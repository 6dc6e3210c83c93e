#pragma once
// Stable Diffusion 3 models as files: with LoRA adapters merged into the transformer, in another
// number format, or in the other layout. Tensors are made, written and compared one at a time, so
// that the memory is that of one.

#include <filesystem>

#include "vggflow/families/sd3/model.h"
#include "vggflow/weights/merged_model.h"

namespace vggflow {

/// Writes the whole model. `out` ending in .safetensors is one file in Stability's layout
/// (original_names.h), without tokenizers and configurations; any other is a folder in diffusers'
/// layout with them. First every component's tensors are held against the network of its
/// configuration. What was written has a temporary name beside `out` while it is opened again and
/// every tensor held against what was meant, bit for bit; with adapters the network's output is
/// held against that of base and adapters too. A T5 that the model lacks is left out, of a single
/// file every component that it lacks. Throws for weights that do not fit their configuration,
/// adapters that fit no layer, a change that rounding loses, the name of a file for a folder, and
/// where `out` exists; then nothing is left behind.
WrittenModel write_sd3(const Sd3Files& files, const std::filesystem::path& out,
                       const ModelCopy& copy);

/// Options that name the folder of a single file's configurations.
Sd3Options with_config(const std::filesystem::path& folder);

}  // namespace vggflow
