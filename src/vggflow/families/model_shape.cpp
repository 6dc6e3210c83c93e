#include "vggflow/families/model_shape.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/network_cost.h"
#include "vggflow/io/model_files.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

double real(int64_t x) { return static_cast<double>(x); }

ModelShape nano_shape(const fs::path& folder) {
  NanoOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  const Vocabulary vocabulary = Vocabulary::load(folder / "vocabulary.txt");
  ModelShape shape;
  shape.description = folder.string();
  shape.network = options.network;
  shape.text_tokens = vocabulary.max_tokens();
  shape.height = shape.width = options.network.sample_size;
  shape.text_parameters = real((vocabulary.size() + vocabulary.max_tokens()) * options.text_width);
  shape.keeps_text_encoders = true;
  shape.has_decoder = options.decoder != "none";
  return shape;
}

// The releases' transformer/config.json; their other parts are alike.
MmditOptions published_network(const std::string& name) {
  MmditOptions o{.sample_size = 128,
                 .channels = 16,
                 .patch_size = 2,
                 .layers = 24,
                 .heads = 24,
                 .head_dim = 64,
                 .context_dim = 4096,
                 .pooled_dim = 2048,
                 .pos_embed_max = 192};
  if (name.find("3.5-medium") != std::string::npos) {
    o.pos_embed_max = 384;
    o.qk_norm = true;
    for (int64_t i = 0; i < 13; ++i) o.dual_attention_layers.push_back(i);
  } else if (name.find("3.5-large") != std::string::npos) {
    o.layers = o.heads = 38;
    o.qk_norm = true;
  }
  return o;
}

bool is_published(const std::string& name) {
  for (const char* release :
       {"stable-diffusion-3-medium", "stable-diffusion-3.5-medium", "stable-diffusion-3.5-large"}) {
    if (name.find(release) != std::string::npos) return true;
  }
  return false;
}

ClipTextOptions clip_g() {
  return {.width = 1280,
          .mlp_width = 5120,
          .layers = 32,
          .heads = 20,
          .projection = 1280,
          .activation = "gelu"};
}

void finish_sd3(ModelShape& shape, const Sd3Options& o, bool t5_there) {
  const int64_t scale = shape.vae.downscale();
  shape.height = o.height > 0 ? o.height / scale : shape.network.sample_size;
  shape.width = o.width > 0 ? o.width / scale : shape.network.sample_size;
  shape.text_tokens = 77 + o.t5_tokens;
  shape.has_decoder = true;
  if (o.t5 && t5_there) shape.text_parameters += t5_parameters({});
}

ModelShape published_shape(const ModelOptions& options) {
  ModelShape shape;
  shape.description =
      fmt::format("{}: not on this machine, its published sizes are taken", options.model);
  shape.network = published_network(options.model);
  shape.text_parameters = clip_text_parameters({}) + clip_text_parameters(clip_g());
  finish_sd3(shape, options.sd3, true);
  return shape;
}

// Bytes of a number in the component's largest tensor: of the file, its header alone is read.
double stored_bytes(const Sd3Files& files, const std::string& component) {
  int64_t largest = 0;
  double bytes = 4;
  for (const auto& [name, tensor] : files.weights(component).tensors) {
    if (tensor.numel() <= largest) continue;
    largest = tensor.numel();
    bytes = real(tensor.element_size());
  }
  return bytes;
}

ModelShape sd3_shape(const ModelOptions& options) {
  const Sd3Files files(options.model, options.sd3);
  ModelShape shape;
  shape.description = options.model;
  shape.network = mmdit_options_from_json(read_model_config(files.folder("transformer")));
  shape.vae = AutoencoderKlOptions::read(files.folder("vae") / "config.json");
  shape.stored_bytes = stored_bytes(files, "transformer");
  for (const char* clip : {"text_encoder", "text_encoder_2"})
    shape.text_parameters += clip_text_parameters(ClipTextOptions::read(files.folder(clip)));
  const bool t5 = options.sd3.t5 && files.has("text_encoder_3");
  finish_sd3(shape, options.sd3, false);
  if (t5) shape.text_parameters += t5_parameters(T5Options::read(files.folder("text_encoder_3")));
  return shape;
}

}  // namespace

std::unique_ptr<Module> network_skeleton(const ModelShape& shape) {
  const ShapesOnly guard;
  return std::make_unique<Mmdit>(shape.network);
}

void check_model_sizes(const ModelOptions& options, const ModelShape& shape) {
  if (!shape.keeps_text_encoders)
    check_sd3_options(options.sd3, shape.network, shape.vae.downscale());
}

ModelShape read_model_shape(const ModelOptions& options) {
  const fs::path path = model_path(options);
  check_model_options(options);
  if (fs::exists(path / "vocabulary.txt")) return nano_shape(path);
  const bool absent = is_repo_id(options.model) && !is_on_this_machine(options.model);
  return absent && is_published(options.model) ? published_shape(options) : sd3_shape(options);
}

}  // namespace vggflow
