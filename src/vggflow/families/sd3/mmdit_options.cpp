#include "vggflow/families/sd3/mmdit_options.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

using nlohmann::json;

// config.json as SD3Transformer2DModel takes it, with its defaults.
struct DiffusersConfig {
  std::map<std::string, int64_t> numbers{{"sample_size", 128},
                                         {"patch_size", 2},
                                         {"in_channels", 16},
                                         {"out_channels", 16},
                                         {"num_layers", 18},
                                         {"attention_head_dim", 64},
                                         {"num_attention_heads", 18},
                                         {"joint_attention_dim", 4096},
                                         {"caption_projection_dim", 1152},
                                         {"pooled_projection_dim", 2048},
                                         {"pos_embed_max_size", 96}};
  std::vector<int64_t> dual_attention_layers;
  bool qk_norm = false;
};

// A whole number of at least `least`; what else it may be is refused under the key's name.
int64_t whole_number(const json& value, const std::string& key, int64_t least) {
  VGGFLOW_CHECK(value.is_number_integer() && value.get<int64_t>() >= least,
                "[mmdit] config.json: expected {} to be a whole number of at least {}, got {}", key,
                least, value.dump());
  return value.get<int64_t>();
}

std::vector<int64_t> layer_list(const json& value) {
  VGGFLOW_CHECK(
      value.is_array(),
      "[mmdit] config.json: expected dual_attention_layers to be a list of blocks, got {}",
      value.dump());
  std::vector<int64_t> layers;
  for (const json& layer : value)
    layers.push_back(whole_number(layer, "dual_attention_layers' entries", 0));
  return layers;
}

bool is_rms_norm(const json& value) {
  if (value.is_null()) return false;
  VGGFLOW_CHECK(value == "rms_norm",
                "[mmdit] config.json: expected qk_norm to be null or \"rms_norm\", which is what "
                "SD3 and SD3.5 have, got {}",
                value.dump());
  return true;
}

void read_key(DiffusersConfig& c, const std::string& key, const json& value) {
  if (key == "_class_name") {
    VGGFLOW_CHECK(value == "SD3Transformer2DModel",
                  "[mmdit] config.json: expected the class SD3Transformer2DModel, got {}",
                  value.dump());
  } else if (key == "dual_attention_layers") {
    c.dual_attention_layers = layer_list(value);
  } else if (key == "qk_norm") {
    c.qk_norm = is_rms_norm(value);
  } else if (key == "out_channels" && value.is_null()) {
    c.numbers["out_channels"] = -1;  // in_channels, wherever that stands in the file
  } else if (const auto number = c.numbers.find(key); number != c.numbers.end()) {
    number->second = whole_number(value, key, 1);
  } else {
    // Keys with an underscore are diffusers' notes to itself (_diffusers_version, _name_or_path).
    VGGFLOW_CHECK(key.starts_with('_'),
                  "[mmdit] config.json: '{}' is not a setting of SD3Transformer2DModel: expected "
                  "the transformer of Stable "
                  "Diffusion 3 or 3.5",
                  key);
  }
}

}  // namespace

bool MmditOptions::is_dual(int64_t layer) const {
  return std::ranges::find(dual_attention_layers, layer) != dual_attention_layers.end();
}

void check_mmdit_options(const MmditOptions& o) {
  const int64_t patch = std::max<int64_t>(1, o.patch_size);
  VGGFLOW_CHECK(
      o.patch_size > 0 && o.sample_size > 0 && o.sample_size % patch == 0 && o.width() > 0 &&
          o.width() % 4 == 0 && o.layers > 0 && o.pos_embed_max >= o.sample_size / patch,
      "[mmdit] expected sample_size a multiple of patch_size, width a multiple of 4, layers > 0 "
      "and a position grid of at "
      "least {}, got sample_size {}, patch_size {}, width {}, layers {}, pos_embed_max {}",
      o.sample_size / patch, o.sample_size, o.patch_size, o.width(), o.layers, o.pos_embed_max);
  for (const int64_t layer : o.dual_attention_layers) {
    VGGFLOW_CHECK(layer >= 0 && layer < o.layers,
                  "[mmdit] expected dual_attention_layers among the {} layers 0 to {}, got {}",
                  o.layers, o.layers - 1, layer);
  }
}

MmditOptions mmdit_options_from_json(const json& config) {
  VGGFLOW_CHECK(config.is_object(), "[mmdit] config.json: expected an object, got {}",
                config.type_name());
  DiffusersConfig c;
  for (const auto& [key, value] : config.items()) read_key(c, key, value);
  auto& n = c.numbers;
  if (n["out_channels"] < 0) n["out_channels"] = n["in_channels"];
  VGGFLOW_CHECK(n["out_channels"] == n["in_channels"],
                "[mmdit] config.json: expected out_channels to equal in_channels {}, as a velocity "
                "has the channels of x, got {}",
                n["in_channels"], n["out_channels"]);
  MmditOptions o{.sample_size = n["sample_size"],
                 .channels = n["in_channels"],
                 .patch_size = n["patch_size"],
                 .layers = n["num_layers"],
                 .heads = n["num_attention_heads"],
                 .head_dim = n["attention_head_dim"],
                 .context_dim = n["joint_attention_dim"],
                 .pooled_dim = n["pooled_projection_dim"],
                 .pos_embed_max = n["pos_embed_max_size"],
                 .qk_norm = c.qk_norm,
                 .dual_attention_layers = c.dual_attention_layers};
  VGGFLOW_CHECK(n["caption_projection_dim"] == o.width(),
                "[mmdit] config.json: expected caption_projection_dim to be the width "
                "num_attention_heads * attention_head_dim = {}, got {}",
                o.width(), n["caption_projection_dim"]);
  check_mmdit_options(o);
  return o;
}

}  // namespace vggflow
