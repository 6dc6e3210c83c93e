#include "vggflow/networks/text/blip_text.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "vggflow/core/error.h"

namespace vggflow {

BertAttention::BertAttention(const BlipTextOptions& o, int64_t context_width)
    : heads(o.heads),
      query(o.width, o.width),
      key(context_width, o.width),
      value(context_width, o.width),
      dense(o.width, o.width),
      norm(o.width, o.eps) {
  add("self.query", query);
  add("self.key", key);
  add("self.value", value);
  add("output.dense", dense);
  add("output.LayerNorm", norm);
}

template <TensorLike T>
T BertAttention::forward(const T& x, const T& context, const Tensor& bias) const {
  return norm.forward(x + dense.forward(ops::cross_attention(query.forward(x), key.forward(context),
                                                             value.forward(context), heads, bias)));
}
template Tensor BertAttention::forward(const Tensor&, const Tensor&, const Tensor&) const;
template Dual BertAttention::forward(const Dual&, const Dual&, const Tensor&) const;

BlipTextLayer::BlipTextLayer(const BlipTextOptions& o)
    : attention(o, o.width),
      cross_attention(o, o.image_width),
      intermediate(o.width, o.mlp_width),
      output(o.mlp_width, o.width),
      norm(o.width, o.eps) {
  add("attention", attention);
  add("crossattention", cross_attention);
  add("intermediate.dense", intermediate);
  add("output.dense", output);
  add("output.LayerNorm", norm);
}

template <TensorLike T>
T BlipTextLayer::forward(const T& x, const T& image, const Tensor& padding) const {
  const T seen = cross_attention.forward(attention.forward(x, x, padding), image, {});
  return norm.forward(seen + output.forward(ops::gelu(intermediate.forward(seen))));
}
template Tensor BlipTextLayer::forward(const Tensor&, const Tensor&, const Tensor&) const;
template Dual BlipTextLayer::forward(const Dual&, const Dual&, const Tensor&) const;

BlipTextEncoder::BlipTextEncoder(const BlipTextOptions& o)
    : options(o),
      word_embeddings(new_parameter({o.vocabulary, o.width})),
      position_embeddings(new_parameter({o.positions, o.width})),
      norm(o.width, o.eps) {
  VGGFLOW_CHECK(o.width % o.heads == 0,
                "[blip_text] expected a width that the heads divide, got width {} and {} heads",
                o.width, o.heads);
  add("embeddings.word_embeddings.weight", word_embeddings);
  add("embeddings.position_embeddings.weight", position_embeddings);
  add("embeddings.LayerNorm", norm);
  for (int64_t i = 0; i < o.layers; ++i) {
    layers.push_back(std::make_unique<BlipTextLayer>(o));
    add(fmt::format("encoder.layer.{}", i), *layers.back());
  }
}

template <TensorLike T>
T BlipTextEncoder::forward(const TextBatch& text, const T& image) const {
  const Tensor& tokens = primal(image);
  VGGFLOW_CHECK(text.ids.dim() == 2 && text.ids.size(1) > 0 &&
                    text.ids.size(1) <= options.positions && text.mask.sizes() == text.ids.sizes(),
                "[blip_text] expected ids and mask (B, T), T from 1 to {}, got {} and {}",
                options.positions, shape_string(text.ids), shape_string(text.mask));
  VGGFLOW_CHECK(tokens.dim() == 3 && tokens.size(0) == text.ids.size(0) &&
                    tokens.size(2) == options.image_width,
                "[blip_text] expected image tokens ({}, N, {}), got {}", text.ids.size(0),
                options.image_width, shape_string(tokens));
  const auto dtype = tokens.scalar_type();
  const Tensor words = at::embedding(word_embeddings, text.ids.to(word_embeddings.device())) +
                       position_embeddings.narrow(0, 0, text.ids.size(1));  // (B, T, D)
  constexpr double kNever = -10000;  // BLIP's; e^-10000 is 0 in every float type
  const Tensor padding =
      ((1 - text.mask.to(tokens.options())) * kNever).unsqueeze(1).unsqueeze(1);  // (B, 1, 1, T)
  T x = lift<T>(norm.forward(words.to(dtype)));
  for (const auto& layer : layers) x = layer->forward(x, image, padding);
  return x;
}
template Tensor BlipTextEncoder::forward(const TextBatch&, const Tensor&) const;
template Dual BlipTextEncoder::forward(const TextBatch&, const Dual&) const;

}  // namespace vggflow
