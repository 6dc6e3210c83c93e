#include "vggflow/families/nano/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/device/device.h"
#include "vggflow/networks/model_folder.h"

namespace vggflow {

NanoModel::NanoModel(const NanoOptions& o, Vocabulary v)
    : options(o),
      vocabulary(std::move(v)),
      text(vocabulary.size(), vocabulary.max_tokens(), o.text_width),
      transformer(o.network) {
  VGGFLOW_CHECK(o.network.context_dim == o.text_width && o.network.pooled_dim == o.text_width,
                "[nano] expected context_dim and pooled_dim to equal text_width {}, got {} and {}",
                o.text_width, o.network.context_dim, o.network.pooled_dim);
  add("text_encoder", text);
  add("transformer", transformer);
}

void NanoModel::init(uint64_t seed) {
  transformer.init(seed);
  text.init(seed);
}

bool NanoModel::is_folder(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "vocabulary.txt");
}

std::unique_ptr<NanoModel> NanoModel::load(const std::filesystem::path& folder,
                                           at::ScalarType dtype) {
  NanoOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  auto model = std::make_unique<NanoModel>(options, Vocabulary::load(folder / "vocabulary.txt"));
  load_weights(*model, folder);
  model->to(dtype);
  model->transformer.compute = dtype;
  if (!current_device().is_cpu()) model->transformer.join_projections();
  return model;
}

void NanoModel::save(const std::filesystem::path& folder,
                     const std::map<std::string, std::string>& metadata, at::ScalarType dtype) {
  save_model(*this, fields_of(options), vocabulary, folder, metadata, dtype);
}

void NanoModel::open_decoder(const std::string& taesd) {
  if (options.decoder == NanoDecoder::kNone) return;
  const auto folder = taesd_folder(taesd);
  decoder_ = TaesdDecoder::load(folder);
  decoder_->checkpointing = transformer.checkpointing;
  VGGFLOW_CHECK(options.network.channels == decoder_->options.latent_channels,
                "[nano] TAESD3 reads {} latent channels, the network has {}",
                decoder_->options.latent_channels, options.network.channels);
  const std::string hash = weights_hash(*decoder_);
  VGGFLOW_CHECK(options.decoder_hash.empty() || hash == options.decoder_hash,
                "[nano] the model was trained for a TAESD3 decoder with the hash {}, but that in "
                "{} has {}: pass sd3.taesd=DIR",
                options.decoder_hash, folder.string(), hash);
  options.decoder_hash = hash;
}

template <TensorLike T>
T NanoModel::decoded(const T& x1) const {
  if (options.decoder == NanoDecoder::kNone) return x1;
  VGGFLOW_CHECK(decoder_, "[nano] the decoder of this model is not open");
  return ops::to_dtype(decoder_->decode(ops::to_dtype(x1, transformer.compute)), at::kFloat) * 2.0 -
         1.0;
}
template Tensor NanoModel::decoded(const Tensor&) const;
template Dual NanoModel::decoded(const Dual&) const;

std::string NanoModel::description() const {
  return options.decoder == NanoDecoder::kNone
             ? transformer.description()
             : fmt::format("{}, decoded by TAESD3 {}", transformer.description(),
                           options.decoder_hash);
}

Conditioning NanoModel::encode(const std::vector<std::string>& captions) const {
  Tensor ids =
      at::empty({static_cast<int64_t>(captions.size()), vocabulary.max_tokens()}, at::kLong);
  auto* p = ids.mutable_data_ptr<int64_t>();
  for (const std::string& caption : captions) {
    const auto row = vocabulary.tokenize(caption);
    p = std::copy(row.begin(), row.end(), p);
  }
  return text.forward(ids);
}

std::vector<int64_t> NanoModel::state_shape() const {
  const MmditOptions& o = options.network;
  return {o.channels, o.sample_size, o.sample_size};
}

Conditioning NanoModel::unconditional(int64_t count) const {
  return text.forward(at::zeros({count, vocabulary.max_tokens()}, at::kLong));
}

}  // namespace vggflow
