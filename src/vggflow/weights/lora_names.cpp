#include "vggflow/weights/lora_names.h"

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace vggflow {
namespace {

constexpr const char* kKohya = "lora_unet_";

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

std::optional<KohyaSlot> LoraNames::slot(const std::string& path) const {
  for (const LoraNameTable& table : tables_) {
    const auto block = in_block(path, table.blocks, '.');
    const std::string prefix = kKohya + (block ? table.original_blocks + block->index + "_" : "");
    for (const LoraName& row : block ? table.in_block : table.others) {
      if ((block ? block->rest : path) == row.path)
        return KohyaSlot{prefix + row.original, row.part, row.parts, row.swaps};
    }
  }
  return std::nullopt;
}

std::vector<std::string> LoraNames::paths(const std::string& kohya) const {
  std::vector<std::string> paths;
  const std::string prefix = kKohya;
  if (!kohya.starts_with(prefix)) return paths;
  const std::string name = kohya.substr(prefix.size());
  for (const LoraNameTable& table : tables_) {
    const auto block = in_block(name, table.original_blocks, '_');
    for (const LoraName& row : block ? table.in_block : table.others) {
      if ((block ? block->rest : name) == row.original)
        paths.push_back((block ? table.blocks + block->index + "." : "") + row.path);
    }
    if (!paths.empty()) return paths;
  }
  return paths;
}

NamedLayers LoraNames::exact(const std::string& name) const {
  NamedLayers out;
  const std::string wanted = flat(name);
  for (const LoraNameTable& table : tables_) {
    const auto block = in_block(wanted, flat(table.blocks), '_');
    for (const LoraName& row : block ? table.in_block : table.others) {
      if ((block ? block->rest : wanted) == flat(row.path))
        out.paths = {(block ? table.blocks + block->index + "." : "") + row.path};
    }
    if (!out.known()) continue;
    out.flat = name != out.paths[0];
    return out;
  }
  out.paths = paths(kKohya + wanted);
  out.original = out.known();
  return out;
}

NamedLayers LoraNames::layers_of(const std::string& name) const {
  const auto found =
      behind_prefixes<std::optional<NamedLayers>>(name, [this](const std::string& rest) {
        NamedLayers layers = exact(rest);
        return layers.known() ? std::optional(std::move(layers)) : std::nullopt;
      });
  return found.value_or(NamedLayers{});
}

std::string LoraNames::networks() const {
  std::vector<std::string> all;
  for (const LoraNameTable& table : tables_) all.push_back(table.network);
  return fmt::format("{}", fmt::join(all, " or "));
}

Tensor LoraNames::swap_chunks(const std::string& path, const Tensor& a, const Tensor& b) const {
  const auto place = slot(path);
  if (!place || !place->swaps || b.size(0) != 2 * a.size(1)) return b;
  return at::cat({b.narrow(0, a.size(1), a.size(1)), b.narrow(0, 0, a.size(1))}, 0);
}

bool is_of_text_encoder(const std::string& name) {
  return behind_prefixes<bool>(name, [](const std::string& rest) {
    return std::any_of(kTextEncoders.begin(), kTextEncoders.end(),
                       [&](const char* prefix) { return rest.starts_with(prefix); });
  });
}

}  // namespace vggflow
