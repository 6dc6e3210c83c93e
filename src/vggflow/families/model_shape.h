#pragma once
// The sizes of a flow model, read from its configurations before anything is loaded.

#include <string>

#include "vggflow/families/open_model.h"

namespace vggflow {

/// The sizes of a model, read from its configurations.
struct ModelShape {
  std::string description;  ///< for people: what was read
  MmditOptions network;
  int64_t text_tokens = 0;
  int64_t height = 0, width = 0;  ///< of a state
  double stored_bytes = 2;        ///< of a number in the transformer's file
  double text_parameters = 0;     ///< of all text encoders
  bool keeps_text_encoders =
      false;  ///< nano's word table stays; SD3's encoders leave once the prompts are encoded
  AutoencoderKlOptions vae;
  bool has_decoder = false;  ///< states are latents; without one they are images
  /// Whether it is TAESD3 that makes images of them.
  bool tiny_decoder(const ModelOptions& options) const {
    return has_decoder && (keeps_text_encoders || options.sd3.decoder == "taesd3");
  }
};

/// Reads the shape of config.flow's model: config.json and config.yaml, and of the weights the
/// safetensors header alone. Where nothing of an org/name lies in the cache and it is one of Stable
/// Diffusion 3's releases, its published sizes are taken; a model that is there and does not open
/// is an error.
ModelShape read_model_shape(const ModelOptions& options);

}  // namespace vggflow
