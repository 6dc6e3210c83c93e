#include "vggflow/weights/lora_keys.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <utility>

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

namespace {

// What stands before a network's own names. "lora_" may be the begin of others, so all are tried.
constexpr std::array kPrefixes{"base_model.model.", "model.",           "module.", "_orig_mod.",
                               "transformer.",      "diffusion_model.", "unet.",   "lora_unet_",
                               "lora_transformer_", "lycoris_",         "lora_"};

constexpr std::array kTextEncoders{"lora_te",      "te_",
                                   "te1_",         "te2_",
                                   "te3_",         "text_encoder",
                                   "text_model.",  "text_model_",
                                   "clip_l",       "clip_g",
                                   "t5xxl",        "encoder.block.",
                                   "conditioner.", "cond_stage_model.",
                                   "bundle_emb"};

std::string flat(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

// A name without prefix.
NamedLayers exact_layers_of(const std::string& name) {
  NamedLayers out;
  const std::string wanted = flat(name);
  const auto block = in_block(wanted, "transformer_blocks_", '_');
  const auto search = [&](const auto& rows, const std::string& rest, const std::string& prefix) {
    for (const Row& row : rows) {
      if (rest == flat(row.path)) out.paths = {prefix + row.path};
    }
  };
  if (block)
    search(kBlockRows, block->rest, kBlocks + block->index + ".");
  else
    search(kOtherRows, wanted, "");
  if (out.known()) {
    out.flat = name != out.paths[0];
    return out;
  }
  out.paths = paths_of_kohya(kKohya + wanted);
  out.original = out.known();
  return out;
}

// The first of the name and what is left of it without one or more prefixes that `found` takes.
template <class Result, class F>
Result behind_prefixes(const std::string& name, const F& found) {
  constexpr size_t kLongest = 1000;  // a name of nothing but prefixes ends soon
  if (name.size() > kLongest) return Result{};
  if (Result result = found(name)) return result;
  for (const std::string prefix : kPrefixes) {
    if (!name.starts_with(prefix)) continue;
    if (Result result = behind_prefixes<Result>(name.substr(prefix.size()), found)) return result;
  }
  return Result{};
}

}  // namespace

NamedLayers layers_of(const std::string& name) {
  const auto found = behind_prefixes<std::optional<NamedLayers>>(name, [](const std::string& rest) {
    NamedLayers layers = exact_layers_of(rest);
    return layers.known() ? std::optional(std::move(layers)) : std::nullopt;
  });
  return found.value_or(NamedLayers{});
}

bool is_of_text_encoder(const std::string& name) {
  return behind_prefixes<bool>(name, [](const std::string& rest) {
    return std::any_of(kTextEncoders.begin(), kTextEncoders.end(),
                       [&](const char* prefix) { return rest.starts_with(prefix); });
  });
}

Tensor swap_chunks(const KohyaSlot& slot, const Tensor& a, const Tensor& b) {
  if (!slot.swaps || b.size(0) != 2 * a.size(1)) return b;
  return at::cat({b.narrow(0, a.size(1), a.size(1)), b.narrow(0, 0, a.size(1))}, 0);
}

}  // namespace vggflow
