#pragma once
// Names of the MMDiT's linear layers in diffusers' modules and in the original network that kohya's
// files follow.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// Where a layer of diffusers' naming lies in the original network.
struct KohyaSlot {
  std::string name;    ///< "lora_unet_joint_blocks_0_x_block_attn_qkv"
  int part = 0;        ///< which of the fused projections
  int parts = 1;       ///< 3 for q, k, v
  bool swaps = false;  ///< a (scale, shift) modulation of two chunks is (shift, scale) there
};

/// The slot of "transformer_blocks.0.attn.to_q"; empty for what is no linear layer of the MMDiT.
std::optional<KohyaSlot> kohya_slot(const std::string& path);

/// The paths that share a kohya name, in the order of their parts; empty for an unknown name.
std::vector<std::string> paths_of_kohya(const std::string& name);

/// The layers that a module's name stands for, by diffusers' paths.
struct NamedLayers {
  std::vector<std::string> paths;  ///< one, or q, k and v of a fused projection; none: unknown
  bool original = false;           ///< the original network's name: see KohyaSlot for the order
  bool flat = false;               ///< diffusers' path, written with "_" for "."
  bool known() const { return !paths.empty(); }
};

/// Of a name as any program writes it: diffusers' path or the original network's, with dots or, as
/// kohya, OneTrainer and LyCORIS have it, with underscores, behind any number of the prefixes that
/// wrap a network ("transformer.", "base_model.model.", "model.diffusion_model.", "lora_unet_",
/// "lycoris_", ...).
NamedLayers layers_of(const std::string& name);

/// Whether a tensor's name is that of a text encoder's adapter or embedding, whatever its kind
/// ("lora_te1_...", "text_encoder_2....", "bundle_emb....").
bool is_of_text_encoder(const std::string& name);

/// B of an adapter from one naming to the other: the halves trade places in a modulation of two
/// chunks (rows = 2 * columns of A).
Tensor swap_chunks(const KohyaSlot& slot, const Tensor& a, const Tensor& b);

}  // namespace vggflow
