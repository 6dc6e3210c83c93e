#include "vggflow/networks/vision/vote_head.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

constexpr double kScale = 10;  // unit vectors differ by little: it spares the optimizer the way
constexpr int64_t kEmojiSide = 32;  // what emoji-clip was trained at

}  // namespace

VoteVectors::VoteVectors(VoteNetwork network, const std::filesystem::path& place) {
  switch (network) {
    case VoteNetwork::kEmojiClip:
      emoji_ = EmojiClip::load(place);
      hash_ = weights_hash(*emoji_);
      return;
    case VoteNetwork::kClipVitL14: {
      const ClipCheckpoint checkpoint = read_clip_checkpoint(place, ClipActivation::kQuickGelu);
      clip_ = std::make_unique<ClipImageEncoder>(checkpoint, at::kFloat);
      hash_ = content_hash(checkpoint.tensors);
      return;
    }
  }
}

template <TensorLike T>
T VoteVectors::embed(const T& images) const {
  if (clip_) return clip_->embed(images);
  const Tensor& pixels = primal(images);
  if (pixels.size(2) == kEmojiSide && pixels.size(3) == kEmojiSide)
    return emoji_->embed_images(images);
  return emoji_->embed_images(
      ops::resize(images, kEmojiSide, kEmojiSide, ops::Interpolation::kBilinear));
}
template Tensor VoteVectors::embed(const Tensor&) const;
template Dual VoteVectors::embed(const Dual&) const;

int64_t VoteVectors::width() const {
  return clip_ ? clip_->options().projection : emoji_->options.embedding;
}

VoteHead::VoteHead(const VoteHeadOptions& o, std::unique_ptr<VoteVectors> v)
    : options(o), vectors(std::move(v)), head(o.width, 1, /*with_bias=*/false) {
  VGGFLOW_CHECK(vectors->width() == o.width,
                "[vote-head] expected vectors of {} numbers, {} gives {}", o.width,
                word_of(o.network), vectors->width());
  head.init_zero();
  add("head", head);
}

std::unique_ptr<VoteHead> VoteHead::load(const std::filesystem::path& folder,
                                         const FindWeights& find) {
  VoteHeadOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  const auto place = find(word_of(options.network));
  auto vectors = std::make_unique<VoteVectors>(options.network, place);
  VGGFLOW_CHECK(vectors->hash() == options.network_hash,
                "[vote-head] {} was trained on {} weights with the hash {}, but {} has {}",
                folder.string(), word_of(options.network), options.network_hash, place.string(),
                vectors->hash());
  auto model = std::make_unique<VoteHead>(options, std::move(vectors));
  load_weights(*model, folder);
  return model;
}

void VoteHead::save(const std::filesystem::path& folder,
                    const std::map<std::string, std::string>& metadata) {
  save_model(*this, fields_of(options), std::nullopt, folder, metadata, at::kFloat);
}

template <TensorLike T>
T VoteHead::score_vectors(const T& unit) const {
  return ops::reshape(head.forward(unit), {-1}) * kScale;
}
template Tensor VoteHead::score_vectors(const Tensor&) const;
template Dual VoteHead::score_vectors(const Dual&) const;

}  // namespace vggflow
