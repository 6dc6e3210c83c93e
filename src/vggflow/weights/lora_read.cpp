// read_lora: tensors to adapters by suffix, adapters to layers by name, scales from the settings.
// Problems are collected and told once, by example.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/weights_file.h"
#include "vggflow/weights/lora_formats.h"
#include "vggflow/weights/lora_names.h"
#include "vggflow/weights/lora_settings.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// What has no place: a line each, of one tensor or adapter or of many of a kind.
struct Problems {
  std::vector<std::string> lines;
  size_t count = 0;
  void push_back(std::string line) {
    lines.push_back(std::move(line));
    ++count;
  }
  // Of many, which is told before single ones: five lines are shown.
  void put_first(std::string line, size_t of) {
    lines.insert(lines.begin(), std::move(line));
    count += of;
  }
};

constexpr const char* kPeftPrefix = "base_model.model.";
constexpr size_t kShownName = 120;  // bytes of a name before the rest of its line

// ---- tensors to adapters

enum class Role { kDown, kUp, kAlpha };

// diffusers and PEFT, kohya and its kin, diffusers of 2023.
constexpr std::pair<const char*, Role> kSuffixes[] = {
    {".lora_A.weight", Role::kDown},
    {".lora_B.weight", Role::kUp},
    {".lora_down.weight", Role::kDown},
    {".lora_up.weight", Role::kUp},
    {".lora_linear_layer.down.weight", Role::kDown},
    {".lora_linear_layer.up.weight", Role::kUp},
    {".lora.down.weight", Role::kDown},
    {".lora.up.weight", Role::kUp},
    {".alpha", Role::kAlpha}};

// Adapters that are no pair of two matrices, by a part of their tensors' names.
constexpr std::pair<const char*, const char*> kOtherKinds[] = {
    {".lokr_", "LoKr"},
    {".hada_", "LoHa"},
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".dora_scale", "DoRA"},
    {".lora_magnitude_vector", "DoRA"},
    {".lora_mid.", "LoCon with a third matrix"},
    {".diff", "whole differences (LyCORIS full)"},
    {".diff_b", "whole differences (LyCORIS full)"},
    {".w_norm", "trained norms"},
    {".b_norm", "trained norms"},
    {".ia3_", "IA3"},
    {".on_input", "IA3"},
    {".vera_lambda", "VeRA"},
    {".lora_E", "AdaLoRA"},
    {".a1.", "GLoRA"},
    {".b1.", "GLoRA"},
    {".lora_B.bias", "LoRA with biases"},
    {".modules_to_save.", "whole modules"},
    {".lora_embedding_", "adapters of embeddings"}};

// Where the last such part of a name begins: it ends the name, a word of it, or is open itself
// ("_", ".").
size_t find_part(const std::string& name, const std::string& part) {
  const size_t at = name.rfind(part), end = at + part.size();
  const bool whole = at != std::string::npos && (part.back() == '_' || part.back() == '.' ||
                                                 end == name.size() || name[end] == '.');
  return whole ? at : std::string::npos;
}

struct Leaf {
  std::string module;
  Role role;
};

// PEFT puts an adapter's name between: ".lora_A.default.weight".
std::optional<Leaf> leaf_of(const std::string& name) {
  for (const auto& [suffix, role] : kSuffixes) {
    if (name.ends_with(suffix))
      return Leaf{name.substr(0, name.size() - std::string(suffix).size()), role};
  }
  const std::string end = ".weight";
  for (const auto& [middle, role] :
       {std::pair{std::string(".lora_A."), Role::kDown}, {".lora_B.", Role::kUp}}) {
    const size_t at = name.rfind(middle), begin = at + middle.size();
    if (at == std::string::npos || !name.ends_with(end) || name.size() <= begin + end.size())
      continue;
    const std::string adapter = name.substr(begin, name.size() - end.size() - begin);
    if (adapter.find('.') == std::string::npos) return Leaf{name.substr(0, at), role};
  }
  return std::nullopt;
}

// The tensors of one adapter as they stand in the file.
struct Adapter {
  Tensor down, up, alpha;
};
using Adapters = std::map<std::string, Adapter>;

// What is wrong with a tensor in that place; empty where nothing is.
std::string fault_of(const Tensor& value, Role role) {
  const bool alpha = role == Role::kAlpha;
  if (alpha ? value.numel() != 1 : value.dim() != 2)
    return fmt::format("has shape ({}), expected {}", fmt::join(value.sizes().vec(), ", "),
                       alpha ? "one number" : "a matrix");
  return weight_fault(alpha ? value.to(at::kFloat) : value);
}

// Files every tensor under its module's name.
class Collector {
 public:
  explicit Collector(Problems& problems) : problems_(problems) {}

  void add(const std::string& name, const Tensor& value) {
    const auto other = std::find_if(
        std::begin(kOtherKinds), std::end(kOtherKinds),
        [&](const auto& kind) { return find_part(name, kind.first) != std::string::npos; });
    if (other != std::end(kOtherKinds)) {
      kinds_[other->second].push_back(name);
      told_.insert(name.substr(0, find_part(name, other->first)));
      return;
    }
    const auto leaf = leaf_of(name);
    if (!leaf) {
      problems_.push_back(fmt::format("'{}' is no tensor of a LoRA", name));
      return;
    }
    Adapter& adapter = adapters_[leaf->module];
    Tensor& place = leaf->role == Role::kDown ? adapter.down
                    : leaf->role == Role::kUp ? adapter.up
                                              : adapter.alpha;
    if (place.defined()) {
      problems_.push_back(fmt::format("'{}' comes twice under two names", name));
    } else if (const std::string fault = fault_of(value, leaf->role); !fault.empty()) {
      problems_.push_back(fmt::format("'{}' {}", name, fault));
      told_.insert(leaf->module);
    } else {
      place = value.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    }
  }

  // The adapters; other kinds are reported, each once and before all else.
  Adapters finish() {
    for (const auto& [kind, names] : kinds_) {
      std::vector<std::string> shown;
      for (const std::string& name : names)
        shown.push_back(fmt::format("'{}'", clipped(name, kShownName)));
      problems_.put_first(
          fmt::format("{} tensors of {}, which is not read ({}): expected pairs of matrices; "
                      "merge it into the model with the program that made it",
                      names.size(), kind, examples_of(shown, ", ")),
          names.size());
    }
    std::erase_if(adapters_, [&](const auto& entry) { return told_.contains(entry.first); });
    return std::move(adapters_);
  }

 private:
  Problems& problems_;
  Adapters adapters_;
  std::map<std::string, std::vector<std::string>> kinds_;
  std::set<std::string> told_;  // modules of a fault or another kind: what they lack is no second
};

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

// ---- adapters to layers

// PEFT's name of a module: its path in the network that it wraps.
std::string in_peft(const std::string& name) {
  const std::string prefix = kPeftPrefix;
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

double scale_by(const LoraSettings& settings, const std::string& path, int64_t rank,
                Problems& problems) {
  std::vector<std::string> found;
  const double scale = settings.scale(path, rank, found);
  for (std::string& line : found) problems.push_back(std::move(line));
  return scale;
}

// By diffusers' paths; the scale of a fused projection is that of its fused matrices.
std::vector<LoraLayer> layers_from(const LoraNames& names, const std::string& name,
                                   const Adapter& adapter, const LoraSettings& settings,
                                   Problems& problems) {
  const NamedLayers named = names.layers_of(name);
  if (!named.known()) {
    problems.push_back(fmt::format("'{}' is no linear layer of {}", name, names.networks()));
    return {};
  }
  const int64_t rank = adapter.down.size(0);
  const std::string path = named.original ? in_peft(name) : named.paths[0];
  const double scale = adapter.alpha.defined()
                           ? adapter.alpha.item<double>() / static_cast<double>(rank)
                           : scale_by(settings, path, rank, problems);
  if (named.paths.size() == 3) {
    if (adapter.up.size(0) % 3 == 0) return split_fused(named.paths, adapter, scale);
    problems.push_back(
        fmt::format("'{}' has {} rows in lora_up: expected q, k and v of equal height", name,
                    adapter.up.size(0)));
    return {};
  }
  const Tensor up =
      named.original ? names.swap_chunks(named.paths[0], adapter.down, adapter.up) : adapter.up;
  return {{named.paths[0], adapter.down, up, scale}};
}

LoraLayout layout_of(const LoraNames& names, const Adapters& adapters) {
  const auto any = [&](const auto& is) {
    return std::any_of(adapters.begin(), adapters.end(),
                       [&](const auto& a) { return is(a.first); });
  };
  if (any([](const std::string& name) { return name.starts_with(kPeftPrefix); }))
    return LoraLayout::kPeft;
  return any([&](const std::string& name) {
    const NamedLayers layers = names.layers_of(name);
    return layers.original || (layers.known() && layers.flat);
  })
             ? LoraLayout::kKohya
             : LoraLayout::kDiffusers;
}

// ---- the file

// The file inside a folder, or the folder's file: PEFT keeps alpha in adapter_config.json beside
// the tensors.
fs::path tensors_file(const fs::path& path) {
  if (!fs::is_directory(path)) return path;
  if (const auto file = lora_file_in(path)) return *file;
  fail(
      "[lora] {} is a folder without adapter_model.safetensors (PEFT) or "
      "pytorch_lora_weights.safetensors (diffusers), or the same as .bin: pass a LoRA file or such "
      "a folder",
      path.string());
}

// A file that PEFT named has its settings beside it; one that somebody else made with PEFT's names
// has alpha = rank, as other readers take it too.
LoraSettings settings_of(const fs::path& file, const Metadata& metadata, LoraLayout layout) {
  const auto config = file.parent_path() / "adapter_config.json";
  if (layout == LoraLayout::kPeft && fs::exists(config))
    return {read_text(config), config.string()};
  const auto found = metadata.find("lora_adapter_metadata");
  if (found != metadata.end()) return {found->second, file.string() + ": lora_adapter_metadata"};
  if (layout != LoraLayout::kPeft) return {};
  VGGFLOW_CHECK(!file.filename().string().starts_with("adapter_model."),
                "[lora] {} has PEFT's keys, but no adapter_config.json lies beside it: alpha is "
                "there; keep both in one folder",
                file.string());
  log_info("{} has PEFT's keys, but no adapter_config.json beside it: assuming alpha = rank",
           file.string());
  return {};
}

void report_text_encoders(const fs::path& file, const std::set<std::string>& names,
                          TextAdapters text_encoders, Problems& problems) {
  if (names.empty()) return;
  const std::string shown = examples_of({names.begin(), names.end()}, ", ");
  if (text_encoders == TextAdapters::kSkip) {
    log_info("{}: skipped {} adapters of text encoders: {}", file.string(), names.size(), shown);
    return;
  }
  // The way out comes first: a line is cut at its end.
  problems.put_first(
      fmt::format("{} adapters of text encoders, which are not adapted here. Leave them out by "
                  "--lora-text-encoders skip (export), generator.lora_text_encoders=skip (sample, "
                  "eval) or init_lora_text_encoders=skip (align): {}",
                  names.size(), shown),
      names.size());
}

}  // namespace

std::optional<fs::path> lora_file_in(const fs::path& folder) {
  for (const char* name : {"adapter_model.safetensors", "pytorch_lora_weights.safetensors",
                           "adapter_model.bin", "pytorch_lora_weights.bin"}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  return std::nullopt;
}

LoraFile read_lora(const LoraNames& names, const fs::path& path, TextAdapters text_encoders) {
  const fs::path place = tensors_file(path);
  const WeightsFile file = read_weights(place);
  Problems problems;
  Collector collector(problems);
  std::set<std::string> text;
  // A name's begin is judged before its end: whatever a text encoder has is not for here.
  for (const auto& [name, tensor] : file.tensors) {
    if (is_of_text_encoder(name)) {
      const auto leaf = leaf_of(name);
      text.insert(leaf ? leaf->module : name);
    } else {
      collector.add(name, tensor);
    }
  }
  const Adapters adapters = collector.finish();
  report_text_encoders(place, text, text_encoders, problems);
  LoraFile lora{.layout = layout_of(names, adapters),
                .layers = {},
                .metadata = file.metadata,
                .tensors = file.tensors.size()};
  const LoraSettings settings = settings_of(place, file.metadata, lora.layout);
  std::map<std::string, LoraLayer> layers;
  for (const auto& [name, adapter] : adapters) {
    if (!is_pair(name, adapter, problems)) continue;
    for (const LoraLayer& layer : layers_from(names, name, adapter, settings, problems)) {
      if (!layers.emplace(layer.path, layer).second)
        problems.push_back(fmt::format("'{}' adapts '{}' a second time", name, layer.path));
    }
  }
  VGGFLOW_CHECK(problems.lines.empty(),
                "[lora] {} (read as {}) has {} tensors or adapters without a place: {}",
                place.string(), name_of(lora.layout), problems.count, examples_of(problems.lines));
  VGGFLOW_CHECK(!layers.empty(),
                "[lora] {} holds no adapter: expected lora_A/lora_B or lora_down/lora_up matrices",
                place.string());
  for (auto& [layer_path, layer] : layers) lora.layers.push_back(std::move(layer));
  return lora;
}

}  // namespace vggflow
