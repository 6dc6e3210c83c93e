#include "vggflow/families/sd3/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/families/sd3/mmdit_sizes.h"
#include "vggflow/families/sd3/releases.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/io/model_files.h"
#include "vggflow/networks/autoencoders/decoder_cost.h"
#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/text/t5_encoder.h"
#include "vggflow/weights/sharded_blocks.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// What is read once, whatever the settings.
struct Parts {
  std::string description;
  MmditOptions network;
  AutoencoderKlOptions vae;
  double stored_bytes = 2;
  double clip_parameters = 0, t5_parameters = 0;
};

ClipTextOptions clip_g() {
  return {.width = 1280,
          .mlp_width = 5120,
          .layers = 32,
          .heads = 20,
          .projection = 1280,
          .activation = ClipActivation::kGelu};
}

Parts published_parts(const std::string& name) {
  return {
      .description = fmt::format("{}: not on this machine, its published sizes are taken", name),
      .network = sd3_release(name),
      .vae = {},
      .clip_parameters = clip_text_parameters({}) + clip_text_parameters(clip_g()),
      .t5_parameters = t5_parameters({})};
}

// Bytes of a number in the component's largest tensor: of the file, its header alone is read.
double stored_bytes(const Sd3Files& files, const std::string& component) {
  int64_t largest = 0;
  double bytes = 4;
  for (const auto& [name, tensor] : files.weights(component).tensors) {
    if (tensor.numel() <= largest) continue;
    largest = tensor.numel();
    bytes = static_cast<double>(tensor.element_size());
  }
  return bytes;
}

Parts parts_of(const Sd3Files& files, const std::string& path) {
  Parts parts{.description = path,
              .network = mmdit_options_from_json(read_model_config(files.folder("transformer"))),
              .vae = AutoencoderKlOptions::read(files.folder("vae") / "config.json"),
              .stored_bytes = stored_bytes(files, "transformer")};
  for (const char* clip : {"text_encoder", "text_encoder_2"})
    parts.clip_parameters += clip_text_parameters(ClipTextOptions::read(files.folder(clip)));
  if (files.has("text_encoder_3"))
    parts.t5_parameters = t5_parameters(T5Options::read(files.folder("text_encoder_3")));
  return parts;
}

class Sd3Family : public FamilyModel {
 public:
  Sd3Family(const ModelUse& use, const Sd3Options& options) : use_(use), options_(options) {
    const bool absent = is_repo_id(use.path) && !is_on_this_machine(use.path);
    if (!absent || !is_sd3_release(use.path))
      files_ = std::make_shared<Sd3Files>(use.path, options);
  }
  Sd3Family(const ModelUse& use, const Sd3Options& options, const Sd3Family& opened)
      : use_(use), options_(options), files_(opened.files_), parts_(opened.parts_) {}

  ModelShape shape() const override;
  void check() const override {
    check_sd3_options(options_, parts().network, parts().vae.downscale());
  }
  std::unique_ptr<FlowModel> open(const Group& group) const override {
    const at::ScalarType dtype = precision_dtype(use_.precision);
    auto blocks = source(group);
    if (files_)
      return std::make_unique<Sd3Model>(*files_, use_.path, options_, dtype, use_.checkpointing,
                                        std::move(blocks), group);
    return std::make_unique<Sd3Model>(use_.path, options_, dtype, use_.checkpointing,
                                      std::move(blocks), group);
  }

  std::string network_hash() const override {
    VGGFLOW_CHECK(files_, "[sd3] {} is not on this machine", use_.path);
    return content_hash(files_->weights("transformer").tensors);
  }

 private:
  const Parts& parts() const {
    if (!parts_)
      parts_ = std::make_shared<Parts>(files_ ? parts_of(*files_, use_.path)
                                              : published_parts(use_.path));
    return *parts_;
  }
  bool tiny() const { return options_.decoder == Sd3Decoder::kTaesd3; }
  std::unique_ptr<BlockSource> source(const Group& group) const;
  DecoderSizes decoder(int64_t h, int64_t w) const;
  std::vector<ModelSwitch> switches(int64_t height) const;

  ModelUse use_;
  Sd3Options options_;
  std::shared_ptr<const Sd3Files> files_;       // null: published sizes
  mutable std::shared_ptr<const Parts> parts_;  // once asked for
};

// Where the blocks of the transformer come from; null: they stay. A run that was begun on a GPU
// goes on on a CPU, and mapping its files is what offloading does there.
std::unique_ptr<BlockSource> Sd3Family::source(const Group& group) const {
  if (use_.weights == Weights::kSharded && group.size() > 1) return sharded_blocks(group);
  if (use_.offload == Offload::kNone) return nullptr;
  if (!current_device().is_cpu()) return blocks_on_host(current_device());
  log_info(
      "offload=blocks changes nothing on the CPU: the weights are views of the files, which the "
      "system drops and reads again as it needs memory");
  return nullptr;
}

DecoderSizes Sd3Family::decoder(int64_t h, int64_t w) const {
  if (tiny()) return taesd3_sizes(parts().network.channels, h, w, use_.checkpointing);
  const AutoencoderKlOptions& vae = parts().vae;
  const int64_t tile = vae.sample_size / vae.downscale();
  const bool tiled = options_.tiling;
  return {.name = "VAE",
          .parameters = vae_parameters(vae),
          .cost = vae_decoder_cost(vae, tiled ? std::min(h, tile) : h,
                                   tiled ? std::min(w, tile) : w, use_.checkpointing)};
}

std::vector<ModelSwitch> Sd3Family::switches(int64_t height) const {
  std::vector<ModelSwitch> list;
  if (use_.offload == Offload::kNone && use_.weights == Weights::kResident)
    list.push_back({"checkpointing=true offload=blocks",
                    "on a GPU two blocks' weights at a time",
                    {"checkpointing=true", "offload=blocks"}});
  if (!tiny())
    list.push_back({"sd3.decoder=taesd3",
                    "the tiny decoder instead of the VAE",
                    {"sd3.decoder=taesd3", "sd3.tiling=false"},
                    /*harmless=*/false});
  if (height * parts().vae.downscale() > 512)
    list.push_back({"sd3.height=512 sd3.width=512",
                    "smaller images",
                    {"sd3.height=512", "sd3.width=512"},
                    /*harmless=*/false});
  return list;
}

ModelShape Sd3Family::shape() const {
  const MmditOptions& o = parts().network;
  const int64_t scale = parts().vae.downscale(),
                height = options_.height > 0 ? options_.height / scale : o.sample_size,
                width = options_.width > 0 ? options_.width / scale : o.sample_size;
  ModelShape shape = mmdit_shape(o, {o.channels, height, width}, 77 + options_.t5_tokens);
  shape.description = parts().description;
  shape.upscale = scale;
  shape.stored_bytes = parts().stored_bytes;
  shape.text_parameters = parts().clip_parameters + (options_.t5 ? parts().t5_parameters : 0);
  shape.embeddings_stay = options_.embedding_cache.empty();
  shape.decodes_singly = true;
  shape.decoder = decoder(height, width);
  shape.switches = switches(height);
  return shape;
}

}  // namespace

bool may_be_sd3(const fs::path& path) {
  return !fs::is_directory(path) || fs::exists(path / "model_index.json") ||
         fs::is_directory(path / "snapshots");
}

std::shared_ptr<const FamilyModel> sd3_family(const ModelUse& use, const Sd3Options& options,
                                              const FamilyModel* opened) {
  if (const auto* known = dynamic_cast<const Sd3Family*>(opened))
    return std::make_shared<Sd3Family>(use, options, *known);
  return std::make_shared<Sd3Family>(use, options);
}

double clip_text_parameters(const ClipTextOptions& o) { return count_parameters<ClipTextModel>(o); }
double t5_parameters(const T5Options& o) { return count_parameters<T5Encoder>(o); }

}  // namespace vggflow
