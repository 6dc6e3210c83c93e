#pragma once
// The sizes of a flow model, read from its configurations before anything is loaded.

#include <memory>
#include <optional>
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

/// The network's modules, without memory for their numbers: what adapters can sit on.
std::unique_ptr<Module> network_skeleton(const ModelShape& shape);

/// Throws where images of these settings cannot be made by a model of these sizes.
void check_model_sizes(const ModelOptions& options, const ModelShape& shape);

/// Reads the shape of config.flow's model: config.json and config.yaml, and of the weights the
/// safetensors header alone. Where nothing of an org/name lies in the cache and it is one of Stable
/// Diffusion 3's releases, its published sizes are taken; a model that is there and does not open
/// is an error.
ModelShape read_model_shape(const ModelOptions& options);

/// A model whose files are opened once: first its shape, which settings are held against, then the
/// model.
class ModelFiles {
 public:
  /// Throws as read_model_shape does.
  explicit ModelFiles(const ModelOptions& options);
  const ModelShape& shape() const { return shape_; }
  /// As open_flow_model.
  std::unique_ptr<FlowModel> open() const;
  /// content_hash of the network's weights as they lie in the files: what adapters belong to. Reads
  /// all of them.
  std::string network_hash() const;

 private:
  ModelOptions options_;
  std::optional<Sd3Files> sd3_;  ///< none of a nano model, or of one that is not on this machine
  ModelShape shape_;
};

}  // namespace vggflow
