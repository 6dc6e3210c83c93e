#include "vggflow/families/sd3/original_names.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"

namespace vggflow {
namespace {

using Step = OriginalTarget::Step;
using Table = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kTransformer = "model.diffusion_model.";
constexpr const char* kVae = "first_stage_model.";

// If `text` begins with `prefix`, what follows it.
std::optional<std::string> after(const std::string& text, const std::string& prefix) {
  return text.starts_with(prefix) ? std::optional(text.substr(prefix.size())) : std::nullopt;
}

struct Indexed {
  int64_t index;
  std::string rest;
};
// "12.x_block.attn" -> 12, "x_block.attn".
std::optional<Indexed> split_index(const std::string& text) {
  const size_t dot = text.find('.');
  if (dot == std::string::npos || dot == 0 || dot > 4) return std::nullopt;
  if (!std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(dot),
                   [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return Indexed{std::stoll(text.substr(0, dot)), text.substr(dot + 1)};
}

// The name with the module part replaced by `table`, whose entries are whole module names:
// "mlp.fc1.weight" -> "ff.net.0.proj.weight".
std::optional<std::string> rename(const std::string& name, const Table& table) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return std::nullopt;
  const std::string module = name.substr(0, dot), leaf = name.substr(dot);
  if (leaf != ".weight" && leaf != ".bias") return std::nullopt;
  for (const auto& [from, to] : table) {
    if (module == from) return to + leaf;
  }
  return std::nullopt;
}

// ---- the transformer
// -------------------------------------------------------------------------------------------------

const Table kOutside{{"x_embedder.proj", "pos_embed.proj"},
                     {"t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"},
                     {"t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"},
                     {"y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"},
                     {"y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"},
                     {"context_embedder", "context_embedder"},
                     {"final_layer.linear", "proj_out"},
                     {"final_layer.adaLN_modulation.1", "norm_out.linear"}};
// Inside a block; attn2 is the second attention over the image alone that the first blocks of
// SD3.5-medium have.
const Table kImage{{"attn.proj", "attn.to_out.0"},
                   {"attn.ln_q", "attn.norm_q"},
                   {"attn.ln_k", "attn.norm_k"},
                   {"attn2.proj", "attn2.to_out.0"},
                   {"attn2.ln_q", "attn2.norm_q"},
                   {"attn2.ln_k", "attn2.norm_k"},
                   {"adaLN_modulation.1", "norm1.linear"},
                   {"mlp.fc1", "ff.net.0.proj"},
                   {"mlp.fc2", "ff.net.2"}};
const Table kText{
    {"attn.proj", "attn.to_add_out"},     {"attn.ln_q", "attn.norm_added_q"},
    {"attn.ln_k", "attn.norm_added_k"},   {"adaLN_modulation.1", "norm1_context.linear"},
    {"mlp.fc1", "ff_context.net.0.proj"}, {"mlp.fc2", "ff_context.net.2"}};

// The three names of a fused projection.
struct Fused {
  std::string module;
  std::vector<std::string> parts;
};
const std::vector<Fused> kImageFused{{"attn.qkv", {"attn.to_q", "attn.to_k", "attn.to_v"}},
                                     {"attn2.qkv", {"attn2.to_q", "attn2.to_k", "attn2.to_v"}}};
const std::vector<Fused> kTextFused{
    {"attn.qkv", {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}}};

std::vector<OriginalTarget> block_targets(const Indexed& block, int64_t blocks) {
  const auto image = after(block.rest, "x_block."), text = after(block.rest, "context_block.");
  if (!image && !text) return {};
  const std::string& rest = image ? *image : *text;
  const std::string prefix = fmt::format("transformer_blocks.{}.", block.index);
  for (const Fused& fused : image ? kImageFused : kTextFused) {
    std::vector<OriginalTarget> thirds;
    for (int64_t i = 0; i < 3; ++i) {
      const auto name = rename(rest, {{fused.module, fused.parts[static_cast<size_t>(i)]}});
      if (name) thirds.push_back({"transformer", prefix + *name, Step::kThird, i});
    }
    if (!thirds.empty()) return thirds;
  }
  const auto name = rename(rest, image ? kImage : kText);
  if (!name) return {};
  // The last block's text is modulated once, like the output: its two halves change places.
  const bool swap = text && block.index + 1 == blocks && name->starts_with("norm1_context.");
  return {{"transformer", prefix + *name, swap ? Step::kSwapHalves : Step::kCopy}};
}

std::vector<OriginalTarget> transformer_targets(const std::string& name, int64_t blocks) {
  if (name == "pos_embed") return {{"transformer", "pos_embed.pos_embed"}};
  if (const auto rest = after(name, "joint_blocks.")) {
    const auto block = split_index(*rest);
    return block ? block_targets(*block, blocks) : std::vector<OriginalTarget>{};
  }
  const auto renamed = rename(name, kOutside);
  if (!renamed) return {};
  return {{"transformer", *renamed,
           renamed->starts_with("norm_out.") ? Step::kSwapHalves : Step::kCopy}};
}

// ---- the autoencoder
// -------------------------------------------------------------------------------------------------

const Table kResnet{{"norm1", "norm1"},
                    {"conv1", "conv1"},
                    {"norm2", "norm2"},
                    {"conv2", "conv2"},
                    {"nin_shortcut", "conv_shortcut"}};
const Table kAttention{
    {"norm", "group_norm"}, {"q", "to_q"}, {"k", "to_k"}, {"v", "to_v"}, {"proj_out", "to_out.0"}};
const Table kEnds{{"conv_in", "conv_in"}, {"conv_out", "conv_out"}, {"norm_out", "conv_norm_out"}};

// "down.1.block.0.conv1.weight" with the names for its level and for its sampler.
std::optional<std::string> level_name(const std::string& rest, const char* levels,
                                      const char* sampler, const char* samplers,
                                      int64_t reversed_from) {
  const auto level = split_index(rest);
  if (!level) return std::nullopt;
  const int64_t index = reversed_from > 0 ? reversed_from - 1 - level->index : level->index;
  if (index < 0) return std::nullopt;
  const std::string prefix = fmt::format("{}.{}.", levels, index);
  if (const auto block = after(level->rest, "block.")) {
    const auto resnet = split_index(*block);
    const auto inner = resnet ? rename(resnet->rest, kResnet) : std::nullopt;
    return inner ? std::optional(fmt::format("{}resnets.{}.{}", prefix, resnet->index, *inner))
                 : std::nullopt;
  }
  const auto inner =
      rename(level->rest, {{fmt::format("{}.conv", sampler), fmt::format("{}.0.conv", samplers)}});
  return inner ? std::optional(prefix + *inner) : std::nullopt;
}

std::optional<OriginalTarget> mid_target(const std::string& rest) {
  if (const auto attention = after(rest, "attn_1.")) {
    const auto inner = rename(*attention, kAttention);
    if (!inner) return std::nullopt;
    const bool matrix = inner->ends_with(".weight") && !inner->starts_with("group_norm");
    return OriginalTarget{"vae", "mid_block.attentions.0." + *inner,
                          matrix ? Step::kMatrix : Step::kCopy};
  }
  for (const int64_t i : {0, 1}) {
    const auto block = after(rest, fmt::format("block_{}.", i + 1));
    const auto inner = block ? rename(*block, kResnet) : std::nullopt;
    if (inner) return OriginalTarget{"vae", fmt::format("mid_block.resnets.{}.{}", i, *inner)};
  }
  return std::nullopt;
}

std::vector<OriginalTarget> vae_targets(const std::string& name, int64_t levels) {
  for (const std::string side : {"encoder.", "decoder."}) {
    const auto rest = after(name, side);
    if (!rest) continue;
    std::optional<OriginalTarget> target;
    if (const auto mid = after(*rest, "mid.")) target = mid_target(*mid);
    std::optional<std::string> renamed = rename(*rest, kEnds);
    if (const auto down = after(*rest, "down."))
      renamed = level_name(*down, "down_blocks", "downsample", "downsamplers", /*reversed_from=*/0);
    if (const auto up = after(*rest, "up."))
      renamed = level_name(*up, "up_blocks", "upsample", "upsamplers", /*reversed_from=*/levels);
    if (renamed) target = OriginalTarget{"vae", *renamed};
    if (!target) return {};
    target->name = side + target->name;
    return {*target};
  }
  return {};
}

// ---- the text encoders, which keep transformers' names
// ------------------------------------------------------------------

const Table kTextEncoders{{"text_encoders.clip_l.transformer.", "text_encoder"},
                          {"text_encoders.clip_g.transformer.", "text_encoder_2"},
                          {"text_encoders.t5xxl.transformer.", "text_encoder_3"}};

bool is_logit_scale(const std::string& name) {
  return name.starts_with("text_encoders.") && name.ends_with(".logit_scale");
}

// CLIP-L without a projection: the identity of its width.
void complete_clip_l(TensorMap& clip) {
  const auto embedding = clip.find("text_model.embeddings.token_embedding.weight");
  if (embedding == clip.end() || embedding->second.dim() != 2 ||
      clip.contains("text_projection.weight"))
    return;
  clip["text_projection.weight"] =
      at::eye(embedding->second.size(1), at::kFloat).to(embedding->second.scalar_type());
}

Tensor apply(const OriginalTarget& target, const Tensor& x) {
  if (target.step == Step::kThird)
    return x.narrow(0, target.third * (x.size(0) / 3), x.size(0) / 3);
  if (target.step == Step::kMatrix) return x.reshape({x.size(0), x.size(1)});
  if (target.step == Step::kCopy) return x;
  const auto halves = x.chunk(2, 0);
  return at::cat({halves[1], halves[0]}, 0);
}

bool fits(const OriginalTarget& target, const Tensor& x) {
  if (target.step == Step::kThird) return x.dim() > 0 && x.size(0) % 3 == 0;
  if (target.step == Step::kSwapHalves) return x.dim() > 0 && x.size(0) % 2 == 0;
  if (target.step == Step::kMatrix)
    return x.dim() == 2 || (x.dim() == 4 && x.size(2) == 1 && x.size(3) == 1);
  return true;
}

// One more than the largest index that follows `prefix`.
int64_t count_after(const std::vector<std::string>& names, const std::string& prefix) {
  int64_t count = 0;
  for (const std::string& name : names) {
    const auto rest = after(name, prefix);
    const auto indexed = rest ? split_index(*rest) : std::nullopt;
    if (indexed) count = std::max(count, indexed->index + 1);
  }
  return count;
}

// ---- the way back
// ------------------------------------------------------------------------------------------------------

void add_modules(std::vector<std::string>& names, const std::string& prefix, const Table& table) {
  for (const auto& [from, to] : table) {
    for (const char* leaf : {".weight", ".bias"}) names.push_back(prefix + from + leaf);
  }
}

void add_fused(std::vector<std::string>& names, const std::string& prefix,
               const std::vector<Fused>& all) {
  for (const Fused& fused : all) add_modules(names, prefix, {{fused.module, ""}});
}

std::vector<std::string> transformer_candidates(int64_t blocks) {
  std::vector<std::string> names{std::string(kTransformer) + "pos_embed"};
  add_modules(names, kTransformer, kOutside);
  for (int64_t i = 0; i < blocks; ++i) {
    const std::string image = fmt::format("{}joint_blocks.{}.x_block.", kTransformer, i),
                      text = fmt::format("{}joint_blocks.{}.context_block.", kTransformer, i);
    add_modules(names, image, kImage);
    add_fused(names, image, kImageFused);
    add_modules(names, text, kText);
    add_fused(names, text, kTextFused);
  }
  return names;
}

std::vector<std::string> vae_candidates(int64_t levels, int64_t resnets) {
  std::vector<std::string> names;
  for (const char* side : {"encoder.", "decoder."}) {
    const std::string prefix = std::string(kVae) + side;
    add_modules(names, prefix, kEnds);
    add_modules(names, prefix + "mid.attn_1.", kAttention);
    for (const char* block : {"mid.block_1.", "mid.block_2."})
      add_modules(names, prefix + block, kResnet);
    for (int64_t level = 0; level < levels; ++level) {
      for (const char* direction : {"down", "up"}) {
        const std::string at = fmt::format("{}{}.{}.", prefix, direction, level);
        for (int64_t i = 0; i < resnets; ++i)
          add_modules(names, fmt::format("{}block.{}.", at, i), kResnet);
        add_modules(names, at, {{fmt::format("{}sample.conv", direction), ""}});
      }
    }
  }
  return names;
}

}  // namespace

OriginalSizes original_sizes(const std::vector<std::string>& names) {
  return {count_after(names, std::string(kTransformer) + "joint_blocks."),
          count_after(names, std::string(kVae) + "decoder.up.")};
}

std::vector<OriginalTarget> original_targets(const std::string& name, const OriginalSizes& sizes) {
  if (const auto rest = after(name, kTransformer))
    return transformer_targets(*rest, sizes.joint_blocks);
  if (const auto rest = after(name, kVae)) return vae_targets(*rest, sizes.vae_levels);
  for (const auto& [prefix, component] : kTextEncoders) {
    if (const auto rest = after(name, prefix)) return {{component, *rest}};
  }
  return {};
}

namespace {

bool is_in_component(const std::string& name) {
  return name.starts_with(kTransformer) || name.starts_with(kVae) ||
         std::any_of(kTextEncoders.begin(), kTextEncoders.end(),
                     [&](const auto& encoder) { return name.starts_with(encoder.first); }) ||
         is_logit_scale(name);
}

}  // namespace

bool is_sd3_original(const TensorMap& tensors) {
  return tensors.contains(std::string(kTransformer) + "joint_blocks.0.x_block.attn.qkv.weight");
}

std::map<std::string, TensorMap> from_sd3_original(const TensorMap& tensors,
                                                   const std::string& origin) {
  std::vector<std::string> names, problems, extra;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  const OriginalSizes sizes = original_sizes(names);
  std::map<std::string, TensorMap> out;
  for (const auto& [name, tensor] : tensors) {
    const auto targets = original_targets(name, sizes);
    if (!is_in_component(name))
      extra.push_back("'" + name + "'");
    else if (targets.empty() && !is_logit_scale(name))
      problems.push_back(fmt::format("unknown '{}'", name));
    for (const OriginalTarget& target : targets) {
      if (fits(target, tensor)) {
        out[target.component][target.name] = apply(target, tensor);
      } else {
        problems.push_back(fmt::format("'{}' has shape ({}), which cannot become '{}'", name,
                                       fmt::join(tensor.sizes().vec(), ", "), target.name));
        break;  // the others of a fused projection fail alike
      }
    }
  }
  VGGFLOW_CHECK(problems.empty(),
                "[sd3_original] {} is not in the layout of a single-file SD3 checkpoint, {}: "
                "{}",
                origin, count_of(problems.size(), "fault"), examples_of(problems));
  if (!extra.empty())
    log_info("{}: left out {} tensors that belong to no component of the model: {}", origin,
             extra.size(), examples_of(extra, ", "));
  if (const auto clip_l = out.find("text_encoder"); clip_l != out.end())
    complete_clip_l(clip_l->second);
  return out;
}

std::vector<OriginalSource> original_sources(
    const std::map<std::string, std::vector<std::string>>& names) {
  OriginalSizes sizes;
  int64_t resnets = 0;
  std::set<std::pair<std::string, std::string>> waiting;
  std::vector<std::string> candidates;
  for (const auto& [component, all] : names) {
    for (const std::string& name : all) waiting.emplace(component, name);
    for (const auto& [prefix, encoder] : kTextEncoders) {
      if (encoder != component) continue;
      for (const std::string& name : all) candidates.push_back(prefix + name);
    }
    if (component == "transformer") sizes.joint_blocks = count_after(all, "transformer_blocks.");
    if (component != "vae") continue;
    sizes.vae_levels = count_after(all, "decoder.up_blocks.");
    for (int64_t i = 0; i < sizes.vae_levels; ++i)
      resnets =
          std::max(resnets, count_after(all, fmt::format("decoder.up_blocks.{}.resnets.", i)));
  }
  for (const auto& more :
       {transformer_candidates(sizes.joint_blocks), vae_candidates(sizes.vae_levels, resnets)}) {
    candidates.insert(candidates.end(), more.begin(), more.end());
  }
  std::vector<OriginalSource> sources;
  for (const std::string& candidate : candidates) {
    const OriginalSource source{candidate, original_targets(candidate, sizes)};
    const auto there = [&](const OriginalTarget& t) {
      return waiting.contains({t.component, t.name});
    };
    if (source.parts.empty() || !std::all_of(source.parts.begin(), source.parts.end(), there))
      continue;
    for (const OriginalTarget& t : source.parts) waiting.erase({t.component, t.name});
    sources.push_back(source);
  }
  std::vector<std::string> problems;
  for (const auto& [component, name] : waiting) problems.push_back(component + "/" + name);
  VGGFLOW_CHECK(problems.empty(),
                "[sd3_original] the single-file layout has no place for {} tensors: {}",
                problems.size(), examples_of(problems, ", "));
  return sources;
}

Tensor to_original(const OriginalSource& source, const std::vector<Tensor>& parts) {
  const Step step = source.parts.front().step;
  if (step == Step::kThird) return at::cat(parts, 0);
  const Tensor& x = parts.front();
  if (step == Step::kCopy) return x;
  if (step == Step::kMatrix) return x.reshape({x.size(0), x.size(1), 1, 1});
  const auto halves = x.chunk(2, 0);
  return at::cat({halves[1], halves[0]}, 0);
}

std::vector<int64_t> original_shape(const OriginalSource& source, std::vector<int64_t> part) {
  const Step step = source.parts.front().step;
  if (step == Step::kThird) part.at(0) *= 3;
  if (step == Step::kMatrix) part.insert(part.end(), {1, 1});
  return part;
}

}  // namespace vggflow
