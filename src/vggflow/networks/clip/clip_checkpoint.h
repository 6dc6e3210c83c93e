#pragma once
// CLIP's weights in the three layouts that are about, brought to the names of transformers'
// CLIPModel without copies: queries, keys and values are slices of open_clip's joint projection and
// its (D, P) projections are seen transposed.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "vggflow/io/safetensors.h"
#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/clip/clip_vision.h"

namespace vggflow {

enum class ClipLayout {
  kTransformers,  ///< CLIPModel, CLIPVisionModelWithProjection, CLIPTextModelWithProjection
  kOpenClip,      ///< open_clip's CLIP and CustomTextCLIP, also below "state_dict."
  kOpenAi,  ///< the same names, with input_resolution, context_length and vocab_size beside them
};

struct ClipCheckpoint {
  TensorMap tensors;  ///< by transformers' names; views of the files, whatever their dtype
  ClipLayout layout = {};
  bool has_vision = false, has_text = false;
  ClipVisionOptions vision =
      {};  ///< sizes of the tensors' shapes; what shapes do not tell as the configuration has it
  ClipTextOptions text = {};
  std::filesystem::path folder;  ///< where the weights lie, and perhaps the tokenizer
  std::string origin;            ///< for errors
};

/// Opens a file of weights (.safetensors, or a torch pickle: .bin, .pt, .pth) or a folder in the
/// layout of the Hugging Face hub, transformers' or open_clip's (open_clip_model.safetensors,
/// open_clip_pytorch_model.bin). The configuration beside the weights (config.json,
/// open_clip_config.json) tells heads, activation and epsilon. Without one, heads are those of the
/// released tower of this width and the activation is OpenAI's quick-GELU in its own layout, else
/// `activation`, or an error where there is none. Throws for tensors that no CLIP of two
/// transformers has.
ClipCheckpoint read_clip_checkpoint(
    const std::filesystem::path& file_or_folder,
    std::optional<ClipActivation> activation = ClipActivation::kGelu);

/// The frozen towers in fp32 or bf16; a tensor that has the dtype already stays a view of the file.
/// Throws where the checkpoint lacks the tower or a tensor of it.
std::unique_ptr<ClipVisionModel> make_clip_vision(const ClipCheckpoint& checkpoint,
                                                  at::ScalarType dtype);
std::unique_ptr<ClipTextModel> make_clip_text(const ClipCheckpoint& checkpoint,
                                              at::ScalarType dtype);

/// exp(logit_scale), the factor of cosines; 100 in the released models.
double clip_logit_scale(const ClipCheckpoint& checkpoint);

}  // namespace vggflow
