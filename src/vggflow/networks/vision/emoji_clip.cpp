#include "vggflow/networks/vision/emoji_clip.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/networks/model_folder.h"

namespace vggflow {
namespace {

constexpr int64_t kGroups = 8;

}  // namespace

ResidualBlock::ResidualBlock(int64_t width)
    : norm1(kGroups, width),
      norm2(kGroups, width),
      conv1(width, width, 3, 1, 1),
      conv2(width, width, 3, 1, 1) {
  add("norm1", norm1);
  add("conv1", conv1);
  add("norm2", norm2);
  add("conv2", conv2);
}

template <TensorLike T>
T ResidualBlock::forward(const T& x) const {
  const T h = conv1.forward(ops::silu(norm1.forward(x)));
  return x + conv2.forward(ops::silu(norm2.forward(h)));
}
template Tensor ResidualBlock::forward(const Tensor&) const;
template Dual ResidualBlock::forward(const Dual&) const;

EmojiClip::EmojiClip(const EmojiClipOptions& o, Vocabulary v)
    : options(o),
      vocabulary(std::move(v)),
      norm_out(kGroups, o.widths.back()),
      image_projection(o.widths.back(), o.embedding),
      words(new_parameter({vocabulary.size(), o.text_width})),
      text_hidden(o.text_width, 2 * o.embedding),
      text_projection(2 * o.embedding, o.embedding),
      logit_scale(new_parameter({1}, 2.0)) {
  for (size_t i = 0; i < o.widths.size(); ++i) {
    const int64_t from = i == 0 ? 3 : o.widths[i - 1];
    transitions.push_back(std::make_unique<Conv2d>(from, o.widths[i], 3, i == 0 ? 1 : 2, 1));
    blocks.push_back(std::make_unique<ResidualBlock>(o.widths[i]));
    add(fmt::format("image.stages.{}.transition", i), *transitions.back());
    add(fmt::format("image.stages.{}.block", i), *blocks.back());
  }
  add("image.norm_out", norm_out);
  add("image.projection", image_projection);
  add("text.word_embedding.weight", words);
  add("text.hidden", text_hidden);
  add("text.projection", text_projection);
  add("logit_scale", logit_scale);
}

void EmojiClip::init(uint64_t seed) {
  init_layers(*this, seed);
  RandomStream random({seed, Purpose::kInit, /*update=*/3, 0});
  fill_on_host(words, [&](std::span<float> values) { random.fill_normal(values); });
}

std::unique_ptr<EmojiClip> EmojiClip::load(const std::filesystem::path& folder) {
  EmojiClipOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  auto model = std::make_unique<EmojiClip>(options, Vocabulary::load(folder / "vocabulary.txt"));
  load_weights(*model, folder);
  return model;
}

void EmojiClip::save(const std::filesystem::path& folder,
                     const std::map<std::string, std::string>& metadata) {
  save_model(*this, fields_of(options), vocabulary, folder, metadata);
}

template <TensorLike T>
T EmojiClip::embed_images(const T& images) const {
  VGGFLOW_CHECK(primal(images).dim() == 4 && primal(images).size(1) == 3,
                "[emoji_clip] expected images (B, 3, H, W), got {}", shape_string(primal(images)));
  T x = (images - 1.0) * 2.0;  // white is 0, so that padding is paper
  if (options.pool > 1) x = ops::avg_pool2d(x, options.pool);
  for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i]->forward(transitions[i]->forward(x));
  const T pooled = ops::mean(ops::silu(norm_out.forward(x)), {2, 3}, /*keepdim=*/false);
  return ops::l2_normalize(image_projection.forward(pooled));
}
template Tensor EmojiClip::embed_images(const Tensor&) const;
template Dual EmojiClip::embed_images(const Dual&) const;

Tensor EmojiClip::embed_text(const Tensor& given) const {
  const Tensor ids = given.to(words.device());
  const Tensor real = (ids != 0).to(words.scalar_type()).unsqueeze(2);
  const Tensor bag = (at::embedding(words, ids) * real).sum(1) / real.sum(1).clamp_min(1);
  return ops::l2_normalize(text_projection.forward(ops::silu(text_hidden.forward(bag))));
}

Tensor EmojiClip::scale() const { return logit_scale.exp().clamp_max(100.0); }

}  // namespace vggflow
