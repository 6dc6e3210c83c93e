#include "vggflow/networks/clip/clip_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"
#include "vggflow/networks/vision/image_preprocess.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kVisionLayers = "vision_model.encoder.layers.",
                  kTextLayers = "text_model.encoder.layers.";

// ---- finding the weights
// -------------------------------------------------------------------------------------------------

bool has_transformers_weights(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json"}) {
    if (fs::exists(folder / name)) return true;
  }
  return false;
}

ClipCheckpoint open_files(const fs::path& path) {
  if (!fs::is_directory(path))
    return {.tensors = open_weights(path), .folder = path.parent_path(), .origin = path.string()};
  for (const char* name : {"open_clip_model.safetensors", "open_clip_pytorch_model.bin"}) {
    if (fs::exists(path / name) && !has_transformers_weights(path)) {
      return {
          .tensors = open_weights(path / name), .folder = path, .origin = (path / name).string()};
    }
  }
  return {.tensors = open_component(path).tensors, .folder = path, .origin = path.string()};
}

Json read_config(const fs::path& file) {
  if (!fs::exists(file)) return Json();
  return read_json_file(file);
}

// ---- names
// ---------------------------------------------------------------------------------------------------------------

struct Rename {
  std::string from, to;
};

// open_clip's names outside the layers; a name that ends in a dot stands for all that begin with
// it.
const std::vector<Rename>& open_clip_names() {
  static const std::vector<Rename> list{
      {"visual.class_embedding", "vision_model.embeddings.class_embedding"},
      {"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"},
      {"visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"},
      {"visual.ln_pre.", "vision_model.pre_layrnorm."},
      {"visual.ln_post.", "vision_model.post_layernorm."},
      {"visual.proj", "visual_projection.weight"},
      {"visual.transformer.resblocks.", kVisionLayers},
      {"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
      {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
      {"ln_final.", "text_model.final_layer_norm."},
      {"text_projection", "text_projection.weight"},
      {"transformer.resblocks.", kTextLayers},
      {"logit_scale", "logit_scale"},
  };
  return list;
}

// The same inside a layer.
const std::vector<Rename>& open_clip_layer_names() {
  static const std::vector<Rename> list{{"attn.in_proj_", "self_attn.in_proj_"},
                                        {"attn.out_proj.", "self_attn.out_proj."},
                                        {"ln_1.", "layer_norm1."},
                                        {"ln_2.", "layer_norm2."},
                                        {"mlp.c_fc.", "mlp.fc1."},
                                        {"mlp.c_proj.", "mlp.fc2."}};
  return list;
}

// `name` by the first rule that fits, or an empty string.
std::string renamed(const std::string& name, const std::vector<Rename>& rules) {
  for (const Rename& r : rules) {
    const bool prefix = r.from.back() == '.' || r.from.back() == '_';
    if (prefix ? name.starts_with(r.from) : name == r.from)
      return r.to + name.substr(r.from.size());
  }
  return "";
}

std::string from_open_clip(const std::string& name) {
  const std::string moved = renamed(name, open_clip_names());
  for (const std::string& layers : {kVisionLayers, kTextLayers}) {
    if (!moved.starts_with(layers)) continue;
    const size_t dot = moved.find('.', layers.size());  // behind the layer's number
    const std::string inner =
        dot == std::string::npos ? "" : renamed(moved.substr(dot + 1), open_clip_layer_names());
    return inner.empty() ? "" : moved.substr(0, dot + 1) + inner;
  }
  return moved;
}

bool is_transformers_name(const std::string& name) {
  for (const char* prefix :
       {"vision_model.", "visual_projection.", "text_model.", "text_projection.", "logit_scale"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

// Puts a tensor down by its new name; the joint projection as its three parts, (D, P) projections
// transposed.
void put(TensorMap& out, const std::string& name, const Tensor& tensor) {
  const size_t joint = name.find("in_proj_");
  if (joint != std::string::npos) {
    const std::string layer = name.substr(0, joint),
                      kind = name.substr(joint + std::string("in_proj_").size());
    const auto parts = tensor.chunk(3, 0);
    VGGFLOW_CHECK(parts.size() == 3,
                  "[clip] expected '{}' to hold queries, keys and values, got {}", name,
                  shape_string(tensor));
    for (size_t i = 0; i < 3; ++i)
      out[fmt::format("{}{}_proj.{}", layer, "qkv"[i], kind)] = parts[i];
    return;
  }
  const bool transposed = name == "visual_projection.weight" || name == "text_projection.weight";
  out[name] = transposed ? tensor.t() : tensor;
}

// What stands before the names: "state_dict.", "module.", or nothing.
std::string find_root(const TensorMap& tensors, const std::string& origin) {
  for (const char* mark : {"vision_model.embeddings.class_embedding", "visual.class_embedding",
                           "text_model.embeddings.token_embedding.weight"}) {
    const std::string ending = mark;
    for (const auto& [name, tensor] : tensors) {
      if (name.ends_with(ending) &&
          (name.size() == ending.size() || name[name.size() - ending.size() - 1] == '.')) {
        return name.substr(0, name.size() - ending.size());
      }
    }
  }
  fail(
      "[clip] {} holds no CLIP of transformers: expected 'vision_model.embeddings.class_embedding' "
      "(transformers) or 'visual.class_embedding' "
      "(open_clip, OpenAI) among its {} tensors",
      origin, tensors.size());
}

// Numbers of the positions and masks, which some files hold.
bool is_constant(const std::string& name) {
  return name.ends_with("embeddings.position_ids") || name == "attn_mask";
}

bool is_openai_mark(const std::string& name) {
  return name == "input_resolution" || name == "context_length" || name == "vocab_size";
}

void rename_all(ClipCheckpoint& c) {
  const std::string root = find_root(c.tensors, c.origin);
  c.layout = c.tensors.contains(root + "visual.class_embedding") ? ClipLayout::kOpenClip
                                                                 : ClipLayout::kTransformers;
  TensorMap out;
  std::vector<std::string> unknown;
  for (const auto& [full, tensor] : c.tensors) {
    if (!full.starts_with(root)) continue;  // what else a training run saved
    std::string name = full.substr(root.size());
    if (c.layout == ClipLayout::kOpenClip && name.starts_with("text."))
      name = name.substr(5);  // CustomTextCLIP
    if (is_constant(name)) continue;
    if (c.layout != ClipLayout::kTransformers && is_openai_mark(name)) {
      c.layout = ClipLayout::kOpenAi;
      continue;
    }
    const std::string known = c.layout == ClipLayout::kTransformers
                                  ? (is_transformers_name(name) ? name : "")
                                  : from_open_clip(name);
    if (known.empty()) {
      unknown.push_back(full);
    } else if (c.layout == ClipLayout::kTransformers) {
      out[known] = tensor;
    } else {
      put(out, known, tensor);
    }
  }
  VGGFLOW_CHECK(unknown.empty(),
                "[clip] {} holds {} tensors that no CLIP of two transformers has, such as '{}': "
                "other towers are not known here",
                c.origin, unknown.size(), unknown.front());
  c.tensors = std::move(out);
}

// ---- options
// -------------------------------------------------------------------------------------------------------------

const Tensor& tensor_of(const ClipCheckpoint& c, const std::string& name, int64_t dims) {
  const auto found = c.tensors.find(name);
  VGGFLOW_CHECK(found != c.tensors.end(), "[clip] {} lacks '{}' (by transformers' names)", c.origin,
                name);
  VGGFLOW_CHECK(found->second.dim() == dims, "[clip] expected '{}' of {} dimensions in {}, got {}",
                name, dims, c.origin, shape_string(found->second));
  return found->second;
}

int64_t count_layers(const ClipCheckpoint& c, const std::string& prefix) {
  int64_t count = 0;
  while (c.tensors.contains(fmt::format("{}{}.layer_norm1.weight", prefix, count))) ++count;
  return count;
}

int64_t known_vision_heads(const ClipCheckpoint& c, int64_t width) {
  for (const auto& [name, preset] : clip_vision_presets()) {
    if (preset.width == width) return preset.heads;
  }
  fail(
      "[clip] {} has an image tower of width {}, which is no released one: put its config.json or "
      "open_clip_config.json beside it",
      c.origin, width);
}

void read_vision_shapes(ClipCheckpoint& c) {
  ClipVisionOptions& o = c.vision;
  const Tensor& patches = tensor_of(c, "vision_model.embeddings.patch_embedding.weight", 4);
  o.width = patches.size(0);
  o.patch = patches.size(3);
  o.layers = count_layers(c, kVisionLayers);
  o.mlp_width = tensor_of(c, kVisionLayers + "0.mlp.fc1.weight", 2).size(0);
  o.projection = tensor_of(c, "visual_projection.weight", 2).size(0);
  const int64_t tokens =
      tensor_of(c, "vision_model.embeddings.position_embedding.weight", 2).size(0);
  const auto grid = std::lrint(std::sqrt(static_cast<double>(tokens - 1)));
  VGGFLOW_CHECK(grid > 0 && grid * grid + 1 == tokens,
                "[clip] expected positions of a square grid and one class token in {}, got {}",
                c.origin, tokens);
  o.image = grid * o.patch;
}

void read_text_shapes(ClipCheckpoint& c) {
  ClipTextOptions& o = c.text;
  const Tensor& words = tensor_of(c, "text_model.embeddings.token_embedding.weight", 2);
  o.vocabulary = words.size(0);
  o.width = words.size(1);
  o.positions = tensor_of(c, "text_model.embeddings.position_embedding.weight", 2).size(0);
  o.layers = count_layers(c, kTextLayers);
  o.mlp_width = tensor_of(c, kTextLayers + "0.mlp.fc1.weight", 2).size(0);
  o.projection = tensor_of(c, "text_projection.weight", 2).size(0);
}

// A tower's section of config.json; a folder of one tower has it at the top.
Json section(const Json& config, const std::string& key) {
  if (config.contains(key) && config[key].is_object()) return config[key];
  return config;
}

void apply_transformers_config(ClipCheckpoint& c, const Json& config, const std::string& file) {
  const Json vision = section(config, "vision_config"), text = section(config, "text_config");
  c.vision.heads = vision.value("num_attention_heads",
                                12);  // transformers' defaults, which it leaves out of the file
  c.vision.activation = clip_activation(vision.value("hidden_act", "quick_gelu"), file);
  c.vision.eps = vision.value("layer_norm_eps", 1e-5);
  c.text.heads = text.value("num_attention_heads", 8);
  c.text.activation = clip_activation(text.value("hidden_act", "quick_gelu"), file);
  c.text.eps = text.value("layer_norm_eps", 1e-5);
  c.text.eos_id = text.value("eos_token_id", 49407);
}

// Settings that change what a tower computes without changing its weights' names.
void refuse_variants(const Json& tower, const std::string& file) {
  const std::map<std::string, std::set<std::string>> plain{{"pool_type", {"\"tok\"", "\"argmax\""}},
                                                           {"no_causal_mask", {"false"}},
                                                           {"final_ln_after_pool", {"false"}},
                                                           {"global_average_pool", {"false"}},
                                                           {"norm_kwargs", {"null"}},
                                                           {"act_kwargs", {"null"}}};
  for (const auto& [key, values] : plain) {
    VGGFLOW_CHECK(!tower.contains(key) || values.contains(tower[key].dump()),
                  "[clip] {} asks for {} = {}, which is not known here", file, key,
                  tower[key].dump());
  }
}

// Towers that want their images standardised or fitted otherwise than OpenAI's would score wrongly
// in silence.
void refuse_preprocessing(const Json& config, const char* mean, const char* deviation,
                          const std::string& file) {
  constexpr ImagePreprocess kClip;
  for (const auto& [key, want] : {std::pair{mean, kClip.mean}, {deviation, kClip.deviation}}) {
    if (!config.contains(key)) continue;
    const auto got = config.at(key).get<std::array<double, 3>>();
    for (size_t i = 0; i < 3; ++i) {
      VGGFLOW_CHECK(std::abs(got[i] - want[i]) < 1e-4,
                    "[clip] {} asks for {} = {}, expected CLIP's own {}", file, key,
                    config.at(key).dump(), fmt::join(want, ", "));
    }
  }
}

void apply_open_clip_config(ClipCheckpoint& c, const Json& config, const std::string& file) {
  if (config.contains("preprocess_cfg"))
    refuse_preprocessing(config.at("preprocess_cfg"), "mean", "std", file);
  const Json model = config.at("model_cfg"), vision = model.at("vision_cfg"),
             text = model.at("text_cfg");
  refuse_variants(vision, file);
  refuse_variants(text, file);
  c.vision.heads = c.vision.width / vision.value("head_width", int64_t{64});
  c.text.heads = text.value("heads", 8);
  c.vision.activation = c.text.activation =
      model.value("quick_gelu", false) ? ClipActivation::kQuickGelu : ClipActivation::kGelu;
}

void apply_released(ClipCheckpoint& c, std::optional<ClipActivation> activation) {
  constexpr int64_t kHeadWidth = 64;  // of every text tower and of OpenAI's image towers
  const bool openai = c.layout == ClipLayout::kOpenAi;
  VGGFLOW_CHECK(openai || activation,
                "[clip] {} has no configuration beside it, and its tensors do not tell GELU from "
                "quick-GELU: put its {} beside it",
                c.origin,
                c.layout == ClipLayout::kTransformers ? "config.json" : "open_clip_config.json");
  if (c.has_vision)
    c.vision.heads = openai ? std::max<int64_t>(1, c.vision.width / kHeadWidth)
                            : known_vision_heads(c, c.vision.width);
  c.text.heads = std::max<int64_t>(1, c.text.width / kHeadWidth);
  c.vision.activation = c.text.activation = openai ? ClipActivation::kQuickGelu : *activation;
}

void read_options(ClipCheckpoint& c, std::optional<ClipActivation> activation) {
  if (c.has_vision) read_vision_shapes(c);
  if (c.has_text) read_text_shapes(c);
  const fs::path file =
      c.folder / (c.layout == ClipLayout::kTransformers ? "config.json" : "open_clip_config.json");
  const Json config = read_config(file),
             preprocessor = read_config(c.folder / "preprocessor_config.json");
  try {
    if (c.has_vision && preprocessor.is_object()) {
      refuse_preprocessing(preprocessor, "image_mean", "image_std",
                           (c.folder / "preprocessor_config.json").string());
    }
    if (config.is_null()) {
      apply_released(c, activation);
    } else if (c.layout == ClipLayout::kTransformers) {
      apply_transformers_config(c, config, file.string());
    } else {
      apply_open_clip_config(c, config, file.string());
    }
  } catch (const Json::exception& e) {
    fail("[clip] expected the configuration of a CLIP in {}, got: {}", file.string(), e.what());
  }
}

// One tower of the checkpoint's tensors with these prefixes, all of which it must have a use for.
template <class Tower, class Options>
std::unique_ptr<Tower> make_tower(const ClipCheckpoint& c, const Options& options,
                                  const std::vector<std::string>& prefixes, at::ScalarType dtype) {
  ComponentWeights weights{.tensors = {}, .files = {}, .origin = "[clip] " + c.origin};
  for (const auto& [name, tensor] : c.tensors) {
    if (std::ranges::any_of(prefixes,
                            [&name = name](const std::string& p) { return name.starts_with(p); }))
      weights.tensors[name] = tensor;
  }
  return load_frozen<Tower>(options, weights, dtype);
}

}  // namespace

ClipCheckpoint read_clip_checkpoint(const fs::path& file_or_folder,
                                    std::optional<ClipActivation> activation) {
  ClipCheckpoint c = open_files(file_or_folder);
  rename_all(c);
  c.has_vision = c.tensors.contains("vision_model.embeddings.class_embedding");
  c.has_text = c.tensors.contains("text_model.embeddings.token_embedding.weight");
  read_options(c, activation);
  return c;
}

std::unique_ptr<ClipVisionModel> make_clip_vision(const ClipCheckpoint& c, at::ScalarType dtype) {
  VGGFLOW_CHECK(c.has_vision, "[clip] {} has no image tower", c.origin);
  return make_tower<ClipVisionModel>(c, c.vision, {"vision_model.", "visual_projection."}, dtype);
}

std::unique_ptr<ClipTextModel> make_clip_text(const ClipCheckpoint& c, at::ScalarType dtype) {
  VGGFLOW_CHECK(c.has_text, "[clip] {} has no text tower", c.origin);
  return make_tower<ClipTextModel>(c, c.text, {"text_model.", "text_projection."}, dtype);
}

double clip_logit_scale(const ClipCheckpoint& c) {
  const auto found = c.tensors.find("logit_scale");
  VGGFLOW_CHECK(found != c.tensors.end() && found->second.numel() == 1,
                "[clip] {} lacks 'logit_scale'", c.origin);
  return std::exp(found->second.to(at::kDouble).item<double>());
}

}  // namespace vggflow
