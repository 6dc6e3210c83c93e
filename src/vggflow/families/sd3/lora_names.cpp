#include "vggflow/families/sd3/lora_names.h"

#include <array>

namespace vggflow {
namespace {

// After "transformer_blocks.<i>." and "joint_blocks_<i>_".
constexpr std::array kBlockRows{
    LoraName{"attn.to_q", "x_block_attn_qkv", 0, 3},
    LoraName{"attn.to_k", "x_block_attn_qkv", 1, 3},
    LoraName{"attn.to_v", "x_block_attn_qkv", 2, 3},
    LoraName{"attn.to_out.0", "x_block_attn_proj"},
    LoraName{"attn.add_q_proj", "context_block_attn_qkv", 0, 3},
    LoraName{"attn.add_k_proj", "context_block_attn_qkv", 1, 3},
    LoraName{"attn.add_v_proj", "context_block_attn_qkv", 2, 3},
    LoraName{"attn.to_add_out", "context_block_attn_proj"},
    LoraName{"attn2.to_q", "x_block_attn2_qkv", 0, 3},
    LoraName{"attn2.to_k", "x_block_attn2_qkv", 1, 3},
    LoraName{"attn2.to_v", "x_block_attn2_qkv", 2, 3},
    LoraName{"attn2.to_out.0", "x_block_attn2_proj"},
    LoraName{"ff.net.0.proj", "x_block_mlp_fc1"},
    LoraName{"ff.net.2", "x_block_mlp_fc2"},
    LoraName{"ff_context.net.0.proj", "context_block_mlp_fc1"},
    LoraName{"ff_context.net.2", "context_block_mlp_fc2"},
    LoraName{"norm1.linear", "x_block_adaLN_modulation_1"},
    LoraName{"norm1_context.linear", "context_block_adaLN_modulation_1", 0, 1,
             /*swaps=*/true},  // the last block's has two chunks
};

constexpr std::array kOtherRows{
    LoraName{"context_embedder", "context_embedder"},
    LoraName{"time_text_embed.timestep_embedder.linear_1", "t_embedder_mlp_0"},
    LoraName{"time_text_embed.timestep_embedder.linear_2", "t_embedder_mlp_2"},
    LoraName{"time_text_embed.text_embedder.linear_1", "y_embedder_mlp_0"},
    LoraName{"time_text_embed.text_embedder.linear_2", "y_embedder_mlp_2"},
    LoraName{"norm_out.linear", "final_layer_adaLN_modulation_1", 0, 1, /*swaps=*/true},
    LoraName{"proj_out", "final_layer_linear"},
};

}  // namespace

LoraNameTable mmdit_lora_names() {
  return {"the MMDiT", "transformer_blocks.", "joint_blocks_", kBlockRows, kOtherRows};
}

}  // namespace vggflow
