#pragma once
// Names of adapted layers as the programs of the world write them: a family of models says how its
// network's linear layers are called, and all spellings are found by that.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// A linear layer in diffusers' modules and in the original network that kohya's files follow, each
/// behind its block's prefix where it lies in a block.
struct LoraName {
  const char* path;      ///< "attn.to_q"
  const char* original;  ///< "x_block_attn_qkv"
  int part = 0;          ///< which of the fused projections
  int parts = 1;         ///< 3 for q, k, v
  bool swaps = false;    ///< a (scale, shift) modulation of two chunks is (shift, scale) there
};

/// How the linear layers of a family's network are called.
struct LoraNameTable {
  std::string network;          ///< for errors: "the MMDiT"
  std::string blocks;           ///< before a block's index in diffusers: "transformer_blocks."
  std::string original_blocks;  ///< and in the original network, flat: "joint_blocks_"
  std::span<const LoraName> in_block, others;
};

/// Where a layer of diffusers' naming lies in the original network.
struct KohyaSlot {
  std::string name;  ///< "lora_unet_joint_blocks_0_x_block_attn_qkv"
  int part = 0, parts = 1;
  bool swaps = false;
};

/// The layers that a module's name stands for, by diffusers' paths.
struct NamedLayers {
  std::vector<std::string> paths;  ///< one, or q, k and v of a fused projection; none: unknown
  bool original = false;           ///< the original network's name: see KohyaSlot for the order
  bool flat = false;               ///< diffusers' path, written with "_" for "."
  bool known() const { return !paths.empty(); }
};

/// The tables of all families; where two know a name, the first one has it.
class LoraNames {
 public:
  explicit LoraNames(std::vector<LoraNameTable> tables) : tables_(std::move(tables)) {}

  /// The slot of "transformer_blocks.0.attn.to_q"; empty for what is no linear layer of any table.
  std::optional<KohyaSlot> slot(const std::string& path) const;

  /// The paths that share a kohya name, in the order of their parts; empty for an unknown name.
  std::vector<std::string> paths(const std::string& kohya) const;

  /// Of a name as any program writes it: diffusers' path or the original network's, with dots or,
  /// as kohya, OneTrainer and LyCORIS have it, with underscores, behind any number of the prefixes
  /// that wrap a network ("transformer.", "base_model.model.", "model.diffusion_model.",
  /// "lora_unet_", "lycoris_", ...).
  NamedLayers layers_of(const std::string& name) const;

  /// The networks of all tables, for errors.
  std::string networks() const;

  /// B of an adapter on `path` from one naming to the other: the halves trade places in a
  /// modulation of two chunks (rows = 2 * columns of A).
  Tensor swap_chunks(const std::string& path, const Tensor& a, const Tensor& b) const;

 private:
  NamedLayers exact(const std::string& name) const;  // without prefix
  std::vector<LoraNameTable> tables_;
};

/// Whether a tensor's name is that of a text encoder's adapter or embedding, whatever its kind
/// ("lora_te1_...", "text_encoder_2....", "bundle_emb....").
bool is_of_text_encoder(const std::string& name);

}  // namespace vggflow
