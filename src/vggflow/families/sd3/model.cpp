#include "vggflow/families/sd3/model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/families/sd3/original_names.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace fs = std::filesystem;

// ---- files
// -----------------------------------------------------------------------------------------------------------

namespace {

// As diffusers does: a hub's fp16 snapshot has the plain files of components that are only there as
// such. Says once what is taken in place of what.
void check_variants(const Sd3Files& files, const std::string& wanted,
                    const std::function<bool(const std::string&)>& in_a_folder) {
  std::vector<std::string> plain;
  std::map<std::string, std::vector<std::string>> only;  // by the variant that is taken
  size_t there = 0;
  for (const char* component :
       {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}) {
    if (!in_a_folder(component)) continue;
    ++there;
    const std::string taken = variant_to_open(files.folder(component), wanted);
    if (taken != wanted) (taken.empty() ? plain : only[taken]).emplace_back(component);
  }
  VGGFLOW_CHECK(wanted.empty() || plain.size() < there,
                "[sd3] no component of {} has weights of variant '{}': leave the variant out for "
                "the plain files",
                files.root().string(), wanted);
  if (!plain.empty())
    log_info("no weights of variant '{}' of {}: using the default files", wanted,
             fmt::join(plain, ", "));
  for (const auto& [variant, components] : only)
    log_info("no default weights of {}: using the only variant, '{}'", fmt::join(components, ", "),
             variant);
}

}  // namespace

Sd3Files::Sd3Files(const std::string& path, const Sd3Options& options) : variant_(options.variant) {
  if (fs::is_regular_file(path)) {
    const TensorMap tensors = open_weights(path);
    VGGFLOW_CHECK(is_sd3_original(tensors),
                  "[sd3] {} is no single-file SD3 checkpoint: expected tensors "
                  "model.diffusion_model.joint_blocks.*",
                  path);
    VGGFLOW_CHECK(!options.config.empty(),
                  "[sd3] {} is a single file, which holds no configurations and no tokenizers: "
                  "pass a folder of the model in diffusers' "
                  "layout (its weights may be absent) as sd3.config (sample, eval, sweep, metrics: "
                  "generator.sd3.config; convert, export: --model-config FOLDER)",
                  path);
    file_ = path;
    index_ = read_model_index(resolve_model(options.config, options.revision));
    original_ = from_sd3_original(tensors, path);
  } else {
    index_ = read_model_index(resolve_model(path, options.revision));
  }
  VGGFLOW_CHECK(index_.class_name == "StableDiffusion3Pipeline",
                "[sd3] {} holds a {}, expected a StableDiffusion3Pipeline", index_.folder.string(),
                index_.class_name);
  check_variants(*this, options.variant, [&](const std::string& component) {
    return !original_.contains(component) && has_weights(component);
  });
}

ComponentWeights Sd3Files::weights(const std::string& component) const {
  const auto found = original_.find(component);
  if (found != original_.end())
    return {found->second, {file_}, fmt::format("[sd3] {} ({})", file_.string(), component)};
  return open_component(folder(component), variant_to_open(folder(component), variant_));
}

bool Sd3Files::has_weights(const std::string& component) const {
  return original_.contains(component) || (has(component) && has_component(folder(component)));
}

FlowSchedule read_sd3_schedule(const fs::path& file) {
  using Json = nlohmann::json;
  const Json json = read_json_file(file);
  const std::string name = json.value("_class_name", "");
  VGGFLOW_CHECK(name == "FlowMatchEulerDiscreteScheduler",
                "[sd3] {}: expected a FlowMatchEulerDiscreteScheduler, got '{}'", file.string(),
                name);
  for (const char* key : {"use_dynamic_shifting", "use_karras_sigmas", "use_exponential_sigmas",
                          "use_beta_sigmas", "invert_sigmas", "stochastic_sampling"}) {
    VGGFLOW_CHECK(json.value(key, Json(false)) == Json(false),
                  "[sd3] {}: {} is {}, which this sampler does not do; expected false",
                  file.string(), key, json[key].dump());
  }
  VGGFLOW_CHECK(json.value("shift_terminal", Json()).is_null(),
                "[sd3] {}: shift_terminal is set, which this sampler does not do", file.string());
  VGGFLOW_CHECK(json.value("num_train_timesteps", Json(1000)) == Json(1000),
                "[sd3] {}: num_train_timesteps is {}, expected 1000", file.string(),
                json["num_train_timesteps"].dump());
  const Json shift = json.value("shift", Json(1.0));
  VGGFLOW_CHECK(shift.is_number() && shift.get<double>() > 0,
                "[sd3] {}: shift is {}, expected a positive number", file.string(), shift.dump());
  return {shift.get<double>(), /*shifts_twice=*/true};
}

// ---- the model
// -------------------------------------------------------------------------------------------------------

std::unique_ptr<Mmdit> load_sd3_transformer(const Sd3Files& files, at::ScalarType dtype,
                                            std::unique_ptr<BlockSource> blocks) {
  const MmditOptions options =
      mmdit_options_from_json(read_model_config(files.folder("transformer")));
  auto net = [&] {
    const ShapesOnly guard;
    return std::make_unique<Mmdit>(options);
  }();
  net->position_grid =
      at::empty({1, options.pos_embed_max * options.pos_embed_max, options.width()});
  auto targets = net->parameters();
  targets.push_back({"pos_embed.pos_embed", &net->position_grid});
  {
    // Blocks that visit the device start from the host.
    const DeviceScope place(blocks ? at::Device(at::kCPU) : current_device());
    adopt_weights(targets, files.weights("transformer"), dtype);
  }
  net->compute = dtype;
  // On the CPU the weights stay views of the file.
  if (!current_device().is_cpu()) net->join_projections();
  if (blocks) {
    net->bring_blocks_from(std::move(blocks), current_device());
    for (const NamedTensor& target : targets) *target.tensor = target.tensor->to(current_device());
  }
  return net;
}

void check_sd3_options(const Sd3Options& o, const MmditOptions& transformer, int64_t downscale) {
  VGGFLOW_CHECK(!o.tiling || o.decoder != Sd3Decoder::kTaesd3,
                "[sd3] expected tiling with decoder=vae only: TAESD3 needs none");
  const int64_t unit = downscale * transformer.patch_size,
                largest = unit * transformer.pos_embed_max;
  for (const int64_t side : {o.height, o.width}) {
    VGGFLOW_CHECK(side % unit == 0 && side <= largest,
                  "[sd3] expected height and width in multiples of {} up to {}, got {}", unit,
                  largest, side);
  }
}

Sd3Model::Sd3Model(const std::string& path, const Sd3Options& o, at::ScalarType dtype,
                   bool checkpointing, std::unique_ptr<BlockSource> blocks, const Group& group)
    : Sd3Model(Sd3Files(path, o), path, o, dtype, checkpointing, std::move(blocks), group) {}

Sd3Model::Sd3Model(const Sd3Files& files, const std::string& path, const Sd3Options& o,
                   at::ScalarType dtype, bool checkpointing, std::unique_ptr<BlockSource> blocks,
                   const Group& group)
    : options_(o), group_(group) {
  schedule_ = read_sd3_schedule(files.folder("scheduler") / "scheduler_config.json");
  transformer_ = load_sd3_transformer(files, dtype, std::move(blocks));
  transformer_->checkpointing = checkpointing;
  const auto vae_options = AutoencoderKlOptions::read(files.folder("vae") / "config.json");
  downscale_ = vae_options.downscale();
  check_sd3_options(o, transformer_->options, downscale_);
  VGGFLOW_CHECK(vae_options.latent_channels == transformer_->options.channels,
                "[sd3] {}: the autoencoder has {} latent channels, the transformer {}", path,
                vae_options.latent_channels, transformer_->options.channels);
  if (o.decoder == Sd3Decoder::kTaesd3) {
    taesd_ = TaesdDecoder::load(taesd_folder(o.taesd));
    taesd_->checkpointing = checkpointing;
    VGGFLOW_CHECK(taesd_->options.latent_channels == transformer_->options.channels,
                  "[sd3] {}: TAESD3 reads {} latent channels, the transformer has {}", path,
                  taesd_->options.latent_channels, transformer_->options.channels);
  } else {
    vae_ = load_frozen<AutoencoderKl>(vae_options, files.weights("vae"), at::kFloat);
    vae_->checkpointing = checkpointing;
  }
  const bool t5 = o.t5 && files.has_weights("text_encoder_3");
  VGGFLOW_CHECK(!t5 || files.has("tokenizer_3"),
                "[sd3] {} has T5's weights (text_encoder_3), but no tokenizer_3 in {}: put that "
                "folder there, or leave T5 out with sd3.t5=false",
                path, files.root().string());
  if (o.t5 && !t5)
    log_info("{} has no weights of T5 (text_encoder_3): its tokens are zeros, as in diffusers",
             path);
  prompts_ = std::make_unique<Sd3PromptEncoder>(
      files.root(),
      Sd3PromptOptions{.t5_tokens = o.t5_tokens,
                       .context_dim = transformer_->options.context_dim,
                       .use_t5 = t5,
                       .dtype = dtype,
                       .cache = o.embedding_cache,
                       .variant = o.variant},
      [files](const std::string& component) { return files.weights(component); });
}

std::vector<int64_t> Sd3Model::state_shape() const {
  const MmditOptions& o = transformer_->options;
  const auto side = [&](int64_t pixels) {
    return pixels > 0 ? pixels / downscale_ : o.sample_size;
  };
  return {o.channels, side(options_.height), side(options_.width)};
}

std::string Sd3Model::description() const {
  const auto shape = state_shape();
  return fmt::format("{}, {} for {}x{} pixels", transformer_->description(),
                     taesd_ ? "TAESD3" : "its own autoencoder", shape[1] * downscale_,
                     shape[2] * downscale_);
}

// ---- prompts
// ---------------------------------------------------------------------------------------------------------

// Those of the prompts, and of the negative one, that are not held in memory, each once.
std::vector<std::string> Sd3Model::missing(const std::vector<std::string>& prompts) const {
  std::vector<std::string> missing;
  const auto want = [&](const std::string& prompt) {
    if (!embeddings_.contains(prompt) &&
        std::find(missing.begin(), missing.end(), prompt) == missing.end())
      missing.push_back(prompt);
  };
  want(options_.negative_prompt);
  for (const std::string& prompt : prompts) want(prompt);
  return missing;
}

Conditioning Sd3Model::encode_missing(const std::vector<std::string>& prompts) const {
  const Sd3Prompt encoded = prompts_->encode(prompts);
  prompts_->drop_encoders();
  for (const std::string& warning : encoded.warnings) {
    if (warned_.insert(warning).second) log_info("warning: {}", warning);
  }
  return encoded.embeddings;
}

// With a cache folder the negative prompt alone is held.
void Sd3Model::keep(const std::vector<std::string>& prompts, const Conditioning& rows) const {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (!options_.embedding_cache.empty() && prompts[i] != options_.negative_prompt) continue;
    const Conditioning row = rows.rows(static_cast<int64_t>(i), 1);
    embeddings_[prompts[i]] = {row.context.clone(), row.pooled.clone()};
  }
}

void Sd3Model::prepare_here(const std::vector<std::string>& prompts) const {
  const std::vector<std::string> all = missing(prompts);
  if (!all.empty()) keep(all, encode_missing(all));
}

// A row at a time, since every rank's memory holds what all send at once.
void Sd3Model::prepare(const std::vector<std::string>& prompts) const {
  if (group_.size() == 1) return prepare_here(prompts);
  const std::vector<std::string> all = missing(prompts);
  if (all.empty()) return;
  std::optional<Conditioning> rows;
  group_.lead([&] { rows = encode_missing(all); });
  const Tensor nothing = at::empty({0}, at::device(current_device()));
  for (size_t i = 0; i < all.size(); ++i) {
    if (!options_.embedding_cache.empty() && all[i] != options_.negative_prompt) continue;
    const auto at = static_cast<int64_t>(i);
    embeddings_[all[i]] = {group_.broadcast(rows ? rows->rows(at, 1).context : nothing).clone(),
                           group_.broadcast(rows ? rows->rows(at, 1).pooled : nothing).clone()};
  }
}

Conditioning Sd3Model::encode(const std::vector<std::string>& prompts) const {
  if (!options_.embedding_cache.empty()) {
    const Conditioning all = prompts_->encode(prompts).embeddings;
    prompts_->drop_encoders();
    return all;
  }
  prepare_here(prompts);
  std::vector<Tensor> context, pooled;
  for (const std::string& prompt : prompts) {
    context.push_back(embeddings_.at(prompt).context);
    pooled.push_back(embeddings_.at(prompt).pooled);
  }
  return {at::cat(context), at::cat(pooled)};
}

Conditioning Sd3Model::unconditional(int64_t count) const {
  prepare_here({});
  return embeddings_.at(options_.negative_prompt).expand(count);
}

// ---- images
// ----------------------------------------------------------------------------------------------------------

template <TensorLike T>
T Sd3Model::decode_all(const T& x1) const {
  if (taesd_) return taesd_->decode(x1) * 2.0 - 1.0;
  return options_.tiling ? vae_->decode_tiled(x1) : vae_->decode(x1);
}

Tensor Sd3Model::decode(const Tensor& x1) const {
  if (at::GradMode::is_enabled() || x1.size(0) == 1) return decode_all(x1);
  std::vector<Tensor> images;
  for (int64_t i = 0; i < x1.size(0); ++i) images.push_back(decode_all(x1.narrow(0, i, 1)));
  return at::cat(images);
}

Dual Sd3Model::decode(const Dual& x1) const { return decode_all(x1); }

}  // namespace vggflow
