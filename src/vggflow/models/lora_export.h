#pragma once
// `vggflow export`: a LoRA in another layout, or merged into a model's weights, checked by reading it back.

#include <string>

#include "vggflow/models/lora_formats.h"
#include "vggflow/models/mmdit.h"
#include "vggflow/models/sd3_model.h"

namespace vggflow {

struct ExportOptions {
  std::string lora;                  ///< what to read, any layout
  std::string out;                   ///< file or folder to write; must not exist
  std::string format = "diffusers";  ///< diffusers, peft, kohya, merged
  std::string dtype = "fp32";        ///< fp32, fp16, bf16
  std::string model;                 ///< base model, nano or Stable Diffusion 3; needed by merged
  Sd3Options sd3 = {};               ///< of an SD3 model: config, variant and revision are read
};

/// Does it and returns what was written and how far the copy is from the source, in one line.
std::string export_lora(const ExportOptions& options);

/// The network's output for a fixed random input (at most 32x32) with adapters merged, in the network's dtype.
Denoiser denoiser_of(Mmdit& network);

}  // namespace vggflow
