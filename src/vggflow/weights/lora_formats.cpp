#include "vggflow/weights/lora_formats.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/io/files.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/weights/lora_names.h"

namespace vggflow {
namespace {

using Json = nlohmann::ordered_json;

// The layers' rounding errors add up in the network: 46 strong adapters in fp16 gave 1.3 times the
// bound of one layer.
constexpr double kDenoiserFactor = 5;

Tensor folded(const LoraLayer& layer) { return layer.b.detach().to(at::kFloat) * layer.scale; }

// ---- diffusers and PEFT: one pair of matrices a layer
// --------------------------------------------------------------------

TensorList pairs(const std::vector<LoraLayer>& layers, const std::string& prefix,
                 at::ScalarType dtype) {
  TensorList tensors;
  for (const LoraLayer& layer : layers) {
    tensors.emplace_back(prefix + layer.path + ".lora_A.weight", layer.a.detach().to(dtype));
    tensors.emplace_back(prefix + layer.path + ".lora_B.weight", folded(layer).to(dtype));
  }
  return tensors;
}

// PEFT's LoraConfig with alpha = rank: the commonest rank, and a pattern for every layer that
// differs.
Json peft_settings(const std::vector<LoraLayer>& layers, const std::string& prefix) {
  std::map<int64_t, int64_t> counts;
  std::vector<std::string> targets;
  for (const LoraLayer& layer : layers) {
    ++counts[layer.rank()];
    targets.push_back(layer.path);
  }
  const auto common =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      })->first;
  Json other = Json::object();
  for (const LoraLayer& layer : layers) {
    if (layer.rank() != common) other[layer.path] = layer.rank();
  }
  return {{prefix + "r", common},
          {prefix + "lora_alpha", common},
          {prefix + "target_modules", targets},
          {prefix + "rank_pattern", other},
          {prefix + "alpha_pattern", other}};
}

Json adapter_config(const std::vector<LoraLayer>& layers) {
  Json config = peft_settings(layers, "");
  config["peft_type"] = "LORA";
  config["task_type"] = nullptr;
  config["base_model_name_or_path"] = nullptr;
  config["bias"] = "none";
  config["lora_dropout"] = 0.0;
  config["inference_mode"] = true;
  return config;
}

// ---- kohya: q, k, v fused
// ------------------------------------------------------------------------------------------------

struct Fused {
  Tensor down, up;
};

// One adapter of the joint projection from those of its parts: down stacked, up block-diagonal.
// Parts that share A (a fused adapter that was read) need it once.
Fused fuse(const std::vector<const LoraLayer*>& parts) {
  const bool complete =
      std::all_of(parts.begin(), parts.end(), [](const LoraLayer* p) { return p != nullptr; });
  if (complete && at::equal(parts[0]->a, parts[1]->a) && at::equal(parts[0]->a, parts[2]->a)) {
    return {parts[0]->a, at::cat({folded(*parts[0]), folded(*parts[1]), folded(*parts[2])}, 0)};
  }
  int64_t rank = 0, height = 0;
  for (const LoraLayer* part : parts) {
    if (part) rank += part->rank(), height = part->b.size(0);
  }
  std::vector<Tensor> down;
  const Tensor up = at::zeros({3 * height, rank});
  int64_t column = 0;
  for (size_t p = 0; p < 3; ++p) {
    if (!parts[p]) continue;
    VGGFLOW_CHECK(parts[p]->b.size(0) == height,
                  "[lora] expected q, k and v of one height, got {} for '{}' beside {}",
                  parts[p]->b.size(0), parts[p]->path, height);
    up.narrow(0, static_cast<int64_t>(p) * height, height)
        .narrow(1, column, parts[p]->rank())
        .copy_(folded(*parts[p]));
    down.push_back(parts[p]->a);
    column += parts[p]->rank();
  }
  return {at::cat(down, 0), up};
}

TensorList kohya_tensors(const LoraNames& names, const std::vector<LoraLayer>& layers,
                         at::ScalarType dtype) {
  std::map<std::string, std::vector<const LoraLayer*>> groups;
  std::vector<std::string> nameless;
  for (const LoraLayer& layer : layers) {
    const auto slot = names.slot(layer.path);
    if (!slot) {
      nameless.push_back(layer.path);
      continue;
    }
    auto& group = groups[slot->name];
    group.resize(static_cast<size_t>(slot->parts));
    group[static_cast<size_t>(slot->part)] = &layer;
  }
  VGGFLOW_CHECK(nameless.empty(), "[lora] {} layers have no name in kohya's layout: {}",
                nameless.size(), examples_of(nameless, ", "));
  TensorList tensors;
  for (const auto& [name, group] : groups) {
    const Fused fused =
        group.size() == 3
            ? fuse(group)
            : Fused{group[0]->a, names.swap_chunks(group[0]->path, group[0]->a, folded(*group[0]))};
    tensors.emplace_back(name + ".lora_down.weight", fused.down.detach().to(dtype));
    tensors.emplace_back(name + ".lora_up.weight", fused.up.to(dtype));
    tensors.emplace_back(name + ".alpha",
                         at::scalar_tensor(static_cast<double>(fused.down.size(0)), at::kFloat));
  }
  return tensors;
}

// What was done to the numbers, for a reader of the header.
std::string export_note(const std::vector<LoraLayer>& layers, LoraLayout layout,
                        at::ScalarType dtype) {
  std::set<double> scales;
  for (const LoraLayer& layer : layers) scales.insert(layer.scale);
  return Json{{"layout", name_of(layout)},
              {"dtype", name_of(dtype)},
              {"alpha", "rank"},
              {"scales_folded_into_b", scales}}
      .dump();
}

// ---- load-back
// -----------------------------------------------------------------------------------------------------------

Tensor low_rank(const LoraLayer& layer, const Tensor& x) {
  return at::linear(at::linear(x, layer.a.detach()), layer.b.detach()) * layer.scale;
}

}  // namespace

const char* name_of(LoraLayout layout) {
  return layout == LoraLayout::kDiffusers ? "diffusers"
         : layout == LoraLayout::kPeft    ? "peft"
                                          : "kohya";
}

const char* name_of(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bf16" : dtype == at::kHalf ? "fp16" : "fp32";
}

at::ScalarType dtype_of(NumberFormat format) {
  switch (format) {
    case NumberFormat::kFp32:
      return at::kFloat;
    case NumberFormat::kFp16:
      return at::kHalf;
    case NumberFormat::kBf16:
      return at::kBFloat16;
  }
  fail("[lora] no such number format");
}

bool LoraFile::fresh() const {
  return std::none_of(layers.begin(), layers.end(),
                      [](const LoraLayer& layer) { return layer.b.ne(0).any().item<bool>(); });
}

double largest_relative_error(const Tensor& got, const Tensor& want) {
  const double size = want.abs().max().item<double>(),
               error = (got - want).abs().max().item<double>();
  return error == 0 ? 0 : error / std::max(size, 1e-30);
}

// Half a unit in the last place is 2^-9 for bf16 and 2^-12 for fp16; A and B are rounded, and the
// errors of the entries partly cancel in the products: the bounds are twice what one rounding of
// each may do to one entry.
double load_back_tolerance(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 8e-3 : dtype == at::kHalf ? 1e-3 : 1e-5;
}

double denoiser_tolerance(at::ScalarType dtype) {
  return kDenoiserFactor * load_back_tolerance(dtype);
}

LoadBack write_lora(const LoraNames& names, const std::filesystem::path& path,
                    const std::vector<LoraLayer>& layers, LoraLayout layout, at::ScalarType dtype,
                    const Metadata& metadata, const Denoiser& denoiser) {
  at::NoGradGuard no_grad;
  VGGFLOW_CHECK(!layers.empty(), "[lora] expected at least one adapter to write to {}, got none",
                path.string());
  Metadata header = metadata;
  header.erase("lora_adapter_metadata");
  header["format"] = "pt";
  header["vggflow.export"] = export_note(layers, layout, dtype);
  if (layout == LoraLayout::kDiffusers)
    header["lora_adapter_metadata"] = json_text(peft_settings(layers, "transformer."));
  const TensorList tensors = layout == LoraLayout::kKohya ? kohya_tensors(names, layers, dtype)
                             : layout == LoraLayout::kDiffusers
                                 ? pairs(layers, "transformer.", dtype)
                                 : pairs(layers, "base_model.model.", dtype);
  if (layout == LoraLayout::kPeft) {
    make_writable_folder(path);
    write_safetensors(path / "adapter_model.safetensors", tensors, header);
    write_text(path / "adapter_config.json", json_text(adapter_config(layers), 2) + "\n");
  } else {
    write_safetensors(path, tensors, header);
  }
  return check_load_back(names, path, layers, tensors.size(), dtype, denoiser);
}

LoadBack check_load_back(const LoraNames& names, const std::filesystem::path& path,
                         const std::vector<LoraLayer>& layers, size_t tensors, at::ScalarType dtype,
                         const Denoiser& denoiser) {
  at::NoGradGuard no_grad;
  const LoraFile back = read_lora(names, path);
  const double tolerance = load_back_tolerance(dtype);
  LoadBack seen{.tensors = back.tensors, .layers = back.layers.size()};
  std::vector<std::string> problems;
  if (back.tensors != tensors)
    problems.push_back(fmt::format("{} tensors were written, {} are there", tensors, back.tensors));
  std::map<std::string, const LoraLayer*> found;
  for (const LoraLayer& layer : back.layers) found[layer.path] = &layer;
  LoraFile written;
  written.layers = layers;
  seen.fresh = written.fresh();
  for (size_t i = 0; i < layers.size(); ++i) {
    const Tensor x = keyed_normal(/*seed=*/1, Purpose::kTest, 0, i, 4, {layers[i].a.size(1)});
    const Tensor want = low_rank(layers[i], x);
    const auto it = found.find(layers[i].path);
    // A projection whose B is zero leaves no trace in a fused adapter.
    const bool there = it != found.end() && it->second->a.size(1) == layers[i].a.size(1) &&
                       it->second->b.size(0) == layers[i].b.size(0);
    const double error =
        largest_relative_error(there ? low_rank(*it->second, x) : at::zeros_like(want), want);
    if (it != found.end()) found.erase(it);
    seen.worst_layer = std::max(seen.worst_layer, error);
    if (!(error <= tolerance))
      problems.push_back(
          fmt::format("'{}' differs by {:.1e} (allowed {:.0e})", layers[i].path, error, tolerance));
  }
  for (const auto& [name, layer] : found) {
    if (layer->b.ne(0).any().item<bool>())
      problems.push_back(fmt::format("'{}' is there, but was not written", name));
  }
  if (denoiser) {
    const Tensor base = denoiser({}), want = denoiser(layers), got = denoiser(back.layers);
    seen.denoiser_error = largest_relative_error(got, want);
    seen.denoiser_change = largest_relative_error(got, base);
    if (!(seen.denoiser_error <= denoiser_tolerance(dtype))) {
      problems.push_back(fmt::format("the denoiser's output differs by {:.1e} (allowed {:.0e})",
                                     seen.denoiser_error, denoiser_tolerance(dtype)));
    }
    if (!seen.fresh && seen.denoiser_change == 0)
      problems.push_back("the adapter changes nothing in the denoiser's output");
  }
  VGGFLOW_CHECK(problems.empty(), "[lora] {} ({}, {}) does not read back as written: {}{}",
                path.string(), name_of(back.layout), name_of(dtype), examples_of(problems),
                dtype == at::kFloat
                    ? ""
                    : "; if numbers are too small or too large for this dtype, write fp32");
  return seen;
}

}  // namespace vggflow
