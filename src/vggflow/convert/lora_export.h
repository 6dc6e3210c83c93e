#pragma once
// `vggflow export`: a LoRA in another layout, or merged into a model's weights, checked by reading
// it back.

#include <string>

#include "vggflow/families/sd3/model.h"
#include "vggflow/flow/flow_model.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {

struct ExportOptions {
  std::string lora;                  ///< what to read, any layout
  std::string out;                   ///< file or folder to write; must not exist
  std::string format = "diffusers";  ///< diffusers, peft, kohya, merged
  std::string dtype = "fp32";        ///< fp32, fp16, bf16
  std::string model;                 ///< base model, nano or Stable Diffusion 3; needed by merged
  Sd3Options sd3 = {};               ///< of an SD3 model: config, variant and revision are read
  std::string lora_text_encoders = "refuse";  ///< refuse, skip: adapters of text encoders in `lora`
};

/// Holds outputs of a network whose weights were merged and rounded against those of base and
/// adapter: the merged one may differ from the adapted one by denoiser_tolerance of its largest
/// value, and by less than the adapter changes. Returns the relative difference.
double check_merged_output(const Tensor& base, const Tensor& adapted, const Tensor& merged,
                           at::ScalarType dtype);

/// Does it and returns what was written and how far the copy is from the source, in one line.
std::string export_lora(const ExportOptions& options);

/// The network's velocity of a fixed random input (at most 32x32) with adapters merged, in the
/// network's dtype.
Denoiser denoiser_of(const FlowNetwork& network);

}  // namespace vggflow
