// read_lora: tensors to adapters by suffix, adapters to layers by name, scales from the settings.
// Problems are collected and listed once.
#include <ATen/ops/arange.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/weights/lora_formats.h"
#include "vggflow/weights/lora_keys.h"
#include "vggflow/weights/lora_read.h"

namespace vggflow {
namespace {

using Json = nlohmann::ordered_json;  // of PEFT's patterns the first match counts
using Problems = std::vector<std::string>;

constexpr const char* kPeftPrefix = "base_model.model.";

enum class Role { kDown, kUp, kAlpha };
constexpr std::pair<const char*, Role> kSuffixes[] = {{".lora_A.weight", Role::kDown},
                                                      {".lora_A.default.weight", Role::kDown},
                                                      {".lora_down.weight", Role::kDown},
                                                      {".lora_B.weight", Role::kUp},
                                                      {".lora_B.default.weight", Role::kUp},
                                                      {".lora_up.weight", Role::kUp},
                                                      {".alpha", Role::kAlpha}};

// The tensors of one adapter as they stand in the file.
struct Adapter {
  Tensor down, up, alpha;
};
using Adapters = std::map<std::string, Adapter>;

// Files every tensor under its module's name.
Adapters collect(const SafetensorsFile& file, Problems& problems) {
  Adapters adapters;
  for (const auto& [name, entry] : file.tensors()) {
    const auto suffix =
        std::find_if(std::begin(kSuffixes), std::end(kSuffixes),
                     [&name = name](const auto& s) { return name.ends_with(s.first); });
    if (suffix == std::end(kSuffixes)) {
      problems.push_back(fmt::format("'{}' is no tensor of a LoRA", name));
      continue;
    }
    Adapter& adapter = adapters[name.substr(0, name.size() - std::string(suffix->first).size())];
    Tensor& place = suffix->second == Role::kDown ? adapter.down
                    : suffix->second == Role::kUp ? adapter.up
                                                  : adapter.alpha;
    const bool alpha = suffix->second == Role::kAlpha;
    const Tensor value = file.load(name);
    if (place.defined()) {
      problems.push_back(fmt::format("'{}' comes twice under two names", name));
    } else if (!value.is_floating_point() && !alpha) {
      problems.push_back(fmt::format("'{}' has dtype {}, expected floating point", name,
                                     c10::toString(entry.dtype)));
    } else if (alpha ? value.numel() != 1 : value.dim() != 2) {
      problems.push_back(fmt::format("'{}' has shape ({}), expected {}", name,
                                     fmt::join(entry.shape, ", "),
                                     alpha ? "one number" : "a matrix"));
    } else if (!value.to(at::kFloat).isfinite().all().item<bool>()) {
      problems.push_back(fmt::format("'{}' holds numbers that are not finite", name));
    } else {
      place = value.to(at::kFloat);
    }
  }
  return adapters;
}

// Names as ComfyUI and its kin write them: the original network's, or diffusers', behind this
// prefix.
constexpr const char* kComfyPrefix = "diffusion_model.";

std::optional<std::string> behind_prefix(const std::string& name) {
  return name.starts_with(kComfyPrefix)
             ? std::optional(name.substr(std::string(kComfyPrefix).size()))
             : std::nullopt;
}

std::string as_kohya(std::string path) {
  std::replace(path.begin(), path.end(), '.', '_');
  return "lora_unet_" + path;
}

// Takes the prefix off. The same few names outside the blocks are in both ways of naming: the
// others tell which one it is. Unknown names stay as they are.
Adapters without_prefix(const Adapters& adapters, Problems& problems) {
  const bool original = std::any_of(adapters.begin(), adapters.end(), [](const auto& entry) {
    const auto path = behind_prefix(entry.first);
    return path && !kohya_slot(*path) && !paths_of_kohya(as_kohya(*path)).empty();
  });
  Adapters out;
  for (const auto& [name, adapter] : adapters) {
    const auto path = behind_prefix(name);
    const bool known = path && (original ? !paths_of_kohya(as_kohya(*path)).empty()
                                         : kohya_slot(*path).has_value());
    const std::string plain = !known ? name : original ? as_kohya(*path) : *path;
    if (!out.emplace(plain, adapter).second)
      problems.push_back(
          fmt::format("'{}' comes twice, with the prefix {} and without", plain, kComfyPrefix));
  }
  return out;
}

// Takes the adapters of text encoders out ("lora_te1_...", "text_encoder_2....",
// "text_encoders...."): only the transformer is adapted here.
std::vector<std::string> take_text_encoders(Adapters& adapters) {
  std::vector<std::string> taken;
  std::erase_if(adapters, [&](const auto& entry) {
    const bool text = entry.first.starts_with("lora_te") || entry.first.starts_with("text_encoder");
    if (text) taken.push_back(entry.first);
    return text;
  });
  return taken;
}

// Reports adapters whose matrices do not make a pair.
bool is_pair(const std::string& name, const Adapter& adapter, Problems& problems) {
  if (!adapter.down.defined() || !adapter.up.defined()) {
    problems.push_back(fmt::format("'{}' lacks its {}", name,
                                   !adapter.down.defined() ? "lora_A (down)" : "lora_B (up)"));
  } else if (adapter.down.size(0) != adapter.up.size(1) || adapter.down.size(0) == 0) {
    problems.push_back(
        fmt::format("'{}' has {} rows in A (down) and {} columns in B (up): expected one rank",
                    name, adapter.down.size(0), adapter.up.size(1)));
  } else {
    return true;
  }
  return false;
}

// PEFT's settings of an adapter, from lora_adapter_metadata or adapter_config.json; null where
// there are none.
class Settings {
 public:
  Settings() = default;
  Settings(const std::string& text, const std::string& origin) {
    try {
      const Json json = Json::parse(text);
      VGGFLOW_CHECK(json.is_object(), "[lora] {}: expected a JSON object of settings", origin);
      // diffusers' pipelines put "transformer." before every key, its models and PEFT do not.
      for (const auto& [key, value] : json.items())
        values_[key.starts_with("transformer.") ? key.substr(12) : key] = value;
    } catch (const nlohmann::json::exception& e) {
      fail("[lora] {} does not hold JSON settings: {}", origin, e.what());
    }
    VGGFLOW_CHECK(!flag("use_dora"),
                  "[lora] {} describes DoRA, which is not read: expected a plain LoRA", origin);
    VGGFLOW_CHECK(!flag("fan_in_fan_out"),
                  "[lora] {} has fan_in_fan_out, which is not read: expected matrices as linear "
                  "layers have them",
                  origin);
  }

  // alpha / rank of the layer, or alpha / sqrt(rank) by rank-stabilised LoRA.
  double scale(const std::string& path, int64_t rank, Problems& problems) const {
    const auto r = value("r", "rank_pattern", path),
               alpha = value("lora_alpha", "alpha_pattern", path);
    if (r && static_cast<int64_t>(*r) != rank)
      problems.push_back(
          fmt::format("'{}' has rank {} by its settings and {} by its tensors", path, *r, rank));
    const auto real_rank = static_cast<double>(rank);
    return alpha.value_or(real_rank) / (flag("use_rslora") ? std::sqrt(real_rank) : real_rank);
  }

 private:
  bool flag(const char* key) const {
    return values_.contains(key) && values_[key].is_boolean() && values_[key].get<bool>();
  }
  std::optional<double> value(const char* key, const char* patterns,
                              const std::string& path) const {
    if (values_.contains(patterns) && values_[patterns].is_object()) {
      for (const auto& [pattern, number] : values_[patterns].items()) {
        if (names(pattern, path)) return number_of(patterns, number);
      }
    }
    if (!values_.contains(key)) return std::nullopt;
    return number_of(key, values_[key]);
  }
  static double number_of(const char* key, const Json& value) {
    VGGFLOW_CHECK(value.is_number(), "[lora] expected a number for the setting '{}', got {}", key,
                  value.dump());
    return value.get<double>();
  }
  // A pattern is a whole path or its end ("to_q"), "^" makes it the whole path. PEFT takes any
  // regular expression; writers use names.
  static bool names(std::string pattern, const std::string& path) {
    const bool whole = pattern.starts_with('^');
    if (whole) pattern.erase(0, 1);
    if (pattern.ends_with('$')) pattern.pop_back();
    std::erase(pattern, '\\');
    VGGFLOW_CHECK(pattern.find_first_of("*+?()[]{}|^$") == std::string::npos,
                  "[lora] the settings name layers by the regular expression '{}', which is not "
                  "read: expected layer names",
                  pattern);
    return path == pattern || (!whole && path.ends_with("." + pattern));
  }
  Json values_ = Json::object();
};

// ---- kohya's fused projections
// ---------------------------------------------------------------------------------------

// Columns of each third of `up` (3 D, R) that are not zero, one row a third: (3, R).
Tensor used_columns(const Tensor& up) {
  return up.reshape({3, up.size(0) / 3, up.size(1)}).ne(0).any(1);
}

// Rank components of each projection: equal thirds where `up` is block-diagonal (as three rank-r
// adapters make it), else disjoint columns (as fewer projections or unequal ranks make it), else,
// and where all is zero, all of them for each.
std::vector<Tensor> components(const Tensor& up) {
  const Tensor used = used_columns(up);
  const int64_t rank = up.size(1);
  std::vector<Tensor> parts;
  if (rank % 3 == 0) {
    Tensor outside = used.clone();
    for (int64_t p = 0; p < 3; ++p) outside[p].narrow(0, p * rank / 3, rank / 3).zero_();
    if (!outside.any().item<bool>()) {
      for (int64_t p = 0; p < 3; ++p)
        parts.push_back(at::arange(p * rank / 3, (p + 1) * rank / 3, at::kLong));
      return parts;
    }
  }
  const bool disjoint = used.sum(0).max().item<int64_t>() == 1;
  for (int64_t p = 0; p < 3; ++p)
    parts.push_back(disjoint ? used[p].nonzero().squeeze(1) : at::arange(rank, at::kLong));
  return parts;
}

std::vector<LoraLayer> split_fused(const std::vector<std::string>& paths, const Adapter& adapter,
                                   double scale) {
  std::vector<LoraLayer> layers;
  const auto parts = components(adapter.up);
  const auto rows = adapter.up.chunk(3, 0);
  for (size_t p = 0; p < 3; ++p) {
    if (parts[p].numel() == 0) continue;
    layers.push_back({paths[p], adapter.down.index_select(0, parts[p]),
                      rows[p].index_select(1, parts[p]), scale});
  }
  return layers;
}

// A kohya adapter by diffusers' paths; the scale is alpha / rank of the fused matrices.
std::vector<LoraLayer> from_kohya(const std::string& name, const Adapter& adapter,
                                  Problems& problems) {
  const auto paths = paths_of_kohya(name);
  const auto rank = static_cast<double>(adapter.down.size(0));
  const double scale = adapter.alpha.defined() ? adapter.alpha.item<double>() / rank : 1.0;
  if (paths.empty()) {
    problems.push_back(fmt::format("'{}' is no layer of the MMDiT", name));
    return {};
  }
  if (paths.size() == 3) {
    if (adapter.up.size(0) % 3 == 0) return split_fused(paths, adapter, scale);
    problems.push_back(
        fmt::format("'{}' has {} rows in lora_up: expected q, k and v of equal height", name,
                    adapter.up.size(0)));
    return {};
  }
  return {{paths[0], adapter.down, swap_chunks(*kohya_slot(paths[0]), adapter.down, adapter.up),
           scale}};
}

LoraLayout layout_of(const Adapters& adapters) {
  const auto any = [&](const char* prefix) {
    return std::any_of(adapters.begin(), adapters.end(),
                       [&](const auto& a) { return a.first.starts_with(prefix); });
  };
  return any("lora_unet_")  ? LoraLayout::kKohya
         : any(kPeftPrefix) ? LoraLayout::kPeft
                            : LoraLayout::kDiffusers;
}

// A layer of a diffusers or PEFT file.
LoraLayer from_path(const std::string& name, LoraLayout layout, const Adapter& adapter,
                    const Settings& settings, Problems& problems) {
  const std::string prefix = layout == LoraLayout::kPeft ? kPeftPrefix : "transformer.";
  const std::string path = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  if (!kohya_slot(path)) {
    problems.push_back(fmt::format("'{}' is no linear layer of the MMDiT", name));
    return {};
  }
  const int64_t rank = adapter.down.size(0);
  const double scale = adapter.alpha.defined()
                           ? adapter.alpha.item<double>() / static_cast<double>(rank)
                           : settings.scale(path, rank, problems);
  return {path, adapter.down, adapter.up, scale};
}

// The file inside a folder, or the folder's file: PEFT keeps alpha in adapter_config.json beside
// the tensors.
std::filesystem::path tensors_file(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path;
  for (const char* name : {"adapter_model.safetensors", "pytorch_lora_weights.safetensors"}) {
    if (std::filesystem::exists(path / name)) return path / name;
  }
  fail(
      "[lora] {} is a folder without adapter_model.safetensors (PEFT) or "
      "pytorch_lora_weights.safetensors (diffusers): pass a LoRA file or such a folder",
      path.string());
}

Settings settings_of(const SafetensorsFile& file, LoraLayout layout) {
  if (layout == LoraLayout::kPeft) {
    const auto config = file.path().parent_path() / "adapter_config.json";
    VGGFLOW_CHECK(std::filesystem::exists(config),
                  "[lora] {} has PEFT's keys, but no adapter_config.json lies beside it: alpha is "
                  "there; keep both in one folder",
                  file.path().string());
    return {read_text(config), config.string()};
  }
  const auto found = file.metadata().find("lora_adapter_metadata");
  return found == file.metadata().end()
             ? Settings()
             : Settings(found->second, file.path().string() + ": lora_adapter_metadata");
}

LoraFile read(const std::filesystem::path& path, bool skip_text_encoders) {
  const SafetensorsFile file(tensors_file(path));
  Problems problems;
  Adapters adapters = without_prefix(collect(file, problems), problems);
  const auto text = take_text_encoders(adapters);
  if (!text.empty() && skip_text_encoders)
    log_info("{}: skipped {} adapters of text encoders: {}", file.path().string(), text.size(),
             fmt::join(text, ", "));
  if (!text.empty() && !skip_text_encoders) {
    problems.push_back(
        fmt::format("{} adapters of text encoders, which are not adapted here ({}); to leave them "
                    "out, write a file "
                    "without them: vggflow export LORA OUT --lora-text-encoders skip",
                    text.size(), fmt::join(text, ", ")));
  }
  LoraFile lora{.layout = layout_of(adapters),
                .layers = {},
                .metadata = file.metadata(),
                .tensors = file.tensors().size()};
  const Settings settings = settings_of(file, lora.layout);
  std::map<std::string, LoraLayer> layers;
  for (const auto& [name, adapter] : adapters) {
    if (!is_pair(name, adapter, problems)) continue;
    const auto found = lora.layout == LoraLayout::kKohya
                           ? from_kohya(name, adapter, problems)
                           : std::vector{from_path(name, lora.layout, adapter, settings, problems)};
    for (const LoraLayer& layer : found) {
      if (!layer.path.empty() && !layers.emplace(layer.path, layer).second)
        problems.push_back(fmt::format("'{}' adapts '{}' a second time", name, layer.path));
    }
  }
  VGGFLOW_CHECK(
      problems.empty(), "[lora] {} (read as {}) has {} tensors or adapters without a place: {}",
      file.path().string(), name_of(lora.layout), problems.size(), fmt::join(problems, "; "));
  VGGFLOW_CHECK(!layers.empty(),
                "[lora] {} holds no adapter: expected lora_A/lora_B or lora_down/lora_up matrices",
                file.path().string());
  for (auto& [layer_path, layer] : layers) lora.layers.push_back(std::move(layer));
  return lora;
}

}  // namespace

LoraFile read_lora(const std::filesystem::path& path) {
  return read(path, /*skip_text_encoders=*/false);
}
LoraFile read_lora_of_transformer(const std::filesystem::path& path) {
  return read(path, /*skip_text_encoders=*/true);
}

}  // namespace vggflow
