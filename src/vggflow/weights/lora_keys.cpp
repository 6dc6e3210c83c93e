#include "vggflow/weights/lora_keys.h"

#include <ATen/ops/cat.h>

#include <array>

namespace vggflow {
namespace {

constexpr const char* kBlocks = "transformer_blocks.";
constexpr const char* kKohya = "lora_unet_";
constexpr const char* kKohyaBlocks = "lora_unet_joint_blocks_";

struct Row {
  const char* path;
  const char* kohya;
  int part = 0, parts = 1;
  bool swaps = false;
};

// After "transformer_blocks.<i>." and "lora_unet_joint_blocks_<i>_".
constexpr std::array kBlockRows{
    Row{"attn.to_q", "x_block_attn_qkv", 0, 3},
    Row{"attn.to_k", "x_block_attn_qkv", 1, 3},
    Row{"attn.to_v", "x_block_attn_qkv", 2, 3},
    Row{"attn.to_out.0", "x_block_attn_proj"},
    Row{"attn.add_q_proj", "context_block_attn_qkv", 0, 3},
    Row{"attn.add_k_proj", "context_block_attn_qkv", 1, 3},
    Row{"attn.add_v_proj", "context_block_attn_qkv", 2, 3},
    Row{"attn.to_add_out", "context_block_attn_proj"},
    Row{"attn2.to_q", "x_block_attn2_qkv", 0, 3},
    Row{"attn2.to_k", "x_block_attn2_qkv", 1, 3},
    Row{"attn2.to_v", "x_block_attn2_qkv", 2, 3},
    Row{"attn2.to_out.0", "x_block_attn2_proj"},
    Row{"ff.net.0.proj", "x_block_mlp_fc1"},
    Row{"ff.net.2", "x_block_mlp_fc2"},
    Row{"ff_context.net.0.proj", "context_block_mlp_fc1"},
    Row{"ff_context.net.2", "context_block_mlp_fc2"},
    Row{"norm1.linear", "x_block_adaLN_modulation_1"},
    Row{"norm1_context.linear", "context_block_adaLN_modulation_1", 0, 1,
        /*swaps=*/true},  // the last block's has two chunks
};

constexpr std::array kOtherRows{
    Row{"context_embedder", "context_embedder"},
    Row{"time_text_embed.timestep_embedder.linear_1", "t_embedder_mlp_0"},
    Row{"time_text_embed.timestep_embedder.linear_2", "t_embedder_mlp_2"},
    Row{"time_text_embed.text_embedder.linear_1", "y_embedder_mlp_0"},
    Row{"time_text_embed.text_embedder.linear_2", "y_embedder_mlp_2"},
    Row{"norm_out.linear", "final_layer_adaLN_modulation_1", 0, 1, /*swaps=*/true},
    Row{"proj_out", "final_layer_linear"},
};

// A block's index and what follows it.
struct InBlock {
  std::string index, rest;
};
std::optional<InBlock> in_block(const std::string& name, const std::string& prefix,
                                char separator) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const size_t end = name.find_first_not_of("0123456789", prefix.size());
  if (end == std::string::npos || end == prefix.size() || name[end] != separator)
    return std::nullopt;
  return InBlock{name.substr(prefix.size(), end - prefix.size()), name.substr(end + 1)};
}

}  // namespace

std::optional<KohyaSlot> kohya_slot(const std::string& path) {
  const auto block = in_block(path, kBlocks, '.');
  const auto find = [&](const auto& rows, const std::string& wanted,
                        const std::string& prefix) -> std::optional<KohyaSlot> {
    for (const Row& row : rows) {
      if (wanted == row.path) return KohyaSlot{prefix + row.kohya, row.part, row.parts, row.swaps};
    }
    return std::nullopt;
  };
  return block ? find(kBlockRows, block->rest, kKohyaBlocks + block->index + "_")
               : find(kOtherRows, path, kKohya);
}

std::vector<std::string> paths_of_kohya(const std::string& name) {
  std::vector<std::string> paths;
  const auto block = in_block(name, kKohyaBlocks, '_');
  const auto collect = [&](const auto& rows, const std::string& wanted, const std::string& prefix) {
    for (const Row& row : rows) {
      if (wanted == row.kohya) paths.push_back(prefix + row.path);
    }
  };
  if (block)
    collect(kBlockRows, block->rest, kBlocks + block->index + ".");
  else if (name.starts_with(kKohya))
    collect(kOtherRows, name.substr(std::string(kKohya).size()), "");
  return paths;
}

Tensor swap_chunks(const KohyaSlot& slot, const Tensor& a, const Tensor& b) {
  if (!slot.swaps || b.size(0) != 2 * a.size(1)) return b;
  return at::cat({b.narrow(0, a.size(1), a.size(1)), b.narrow(0, 0, a.size(1))}, 0);
}

}  // namespace vggflow
