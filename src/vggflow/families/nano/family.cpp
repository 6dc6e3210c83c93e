#include "vggflow/families/nano/family.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/device/device.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/sd3/mmdit_sizes.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/autoencoders/decoder_cost.h"
#include "vggflow/weights/sharded_blocks.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

NanoOptions options_of(const fs::path& folder) {
  NanoOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  return options;
}

void shard(Mmdit& network, const Group& group) {
  for (const auto& block : network.blocks) block->to(at::Device(at::kCPU));
  network.bring_blocks_from(sharded_blocks(group), current_device());
}

class NanoFamily : public FamilyModel {
 public:
  NanoFamily(const ModelUse& use, const std::string& taesd) : use_(use), taesd_(taesd) {}

  ModelShape shape() const override {
    const NanoOptions options = options_of(use_.path);
    const MmditOptions& o = options.network;
    const Vocabulary vocabulary = Vocabulary::load(fs::path(use_.path) / "vocabulary.txt");
    ModelShape shape =
        mmdit_shape(o, {o.channels, o.sample_size, o.sample_size}, vocabulary.max_tokens());
    shape.description = use_.path;
    shape.text_parameters =
        static_cast<double>((vocabulary.size() + vocabulary.max_tokens()) * options.text_width);
    shape.text_encoders_stay = true;
    shape.has_own_prompts = options.decoder == NanoDecoder::kNone;
    if (options.decoder == NanoDecoder::kNone) return shape;
    shape.decoder = taesd3_sizes(o.channels, o.sample_size, o.sample_size, use_.checkpointing);
    shape.upscale = AutoencoderKlOptions{}.downscale();
    return shape;
  }

  std::unique_ptr<FlowModel> open(const Group& group) const override {
    auto nano = NanoModel::load(use_.path, precision_dtype(use_.precision));
    nano->transformer.checkpointing = use_.checkpointing;
    if (use_.weights == Weights::kSharded && group.size() > 1) shard(nano->transformer, group);
    nano->open_decoder(taesd_);
    return nano;
  }
  std::string network_hash() const override {
    return content_hash(SafetensorsFile(fs::path(use_.path) / "model.safetensors").views());
  }

 private:
  ModelUse use_;
  std::string taesd_;
};

}  // namespace

bool is_nano_folder(const fs::path& folder) { return NanoModel::is_folder(folder); }

void check_nano_settings(const std::string& model, const Sd3Options& sd3, Offload offload) {
  Sd3Options given = sd3, plain;
  given.taesd.clear();
  std::vector<std::string> changed = differences(fields_of(given), fields_of(plain));
  for (std::string& key : changed) key = "sd3." + key;
  VGGFLOW_CHECK(changed.empty(), "[model] {} is a nano model, which has no {}", model,
                examples_of(changed, ", "));
  VGGFLOW_CHECK(
      offload == Offload::kNone,
      "[model] {} is a nano model, whose weights any GPU holds: expected offload=none, got "
      "{}",
      model, word_of(offload));
}

bool nano_draws_emoji(const fs::path& folder) {
  return options_of(folder).decoder == NanoDecoder::kNone;
}

std::shared_ptr<const FamilyModel> nano_family(const ModelUse& use, const std::string& taesd,
                                               const FamilyModel*) {
  return std::make_shared<NanoFamily>(use, taesd);
}

}  // namespace vggflow
