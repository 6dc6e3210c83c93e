#include "vggflow/networks/clip/clip_text.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// (B, T, D) -> (B, H, T, D/H)
Tensor split_heads(const Tensor& x, int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
}

}  // namespace

ClipTextOptions ClipTextOptions::read(const std::filesystem::path& folder) {
  const auto config = read_model_config(folder);
  ClipTextOptions o;
  try {
    o.vocabulary = config.at("vocab_size");
    o.width = config.at("hidden_size");
    o.mlp_width = config.at("intermediate_size");
    o.layers = config.at("num_hidden_layers");
    o.heads = config.at("num_attention_heads");
    o.positions = config.at("max_position_embeddings");
    o.projection = config.at("projection_dim");
    o.eps = config.value("layer_norm_eps", o.eps);
    o.activation = clip_activation(config.value("hidden_act", word_of(o.activation)),
                                   (folder / "config.json").string());
    o.eos_id = config.value("eos_token_id", o.eos_id);
  } catch (const nlohmann::json::exception& e) {
    fail("[clip_text] expected the configuration of a CLIP text model in {}, got: {}",
         (folder / "config.json").string(), e.what());
  }
  return o;
}

Tensor ClipTextLayer::attention(const Tensor& x) const {
  const Tensor out = at::scaled_dot_product_attention(
      split_heads(q_proj_.forward(x), heads_), split_heads(k_proj_.forward(x), heads_),
      split_heads(v_proj_.forward(x), heads_), /*attn_mask=*/{}, /*dropout_p=*/0.0,
      /*is_causal=*/true);  // (B, H, T, D/H)
  return out_proj_.forward(out.transpose(1, 2).flatten(2));
}

Tensor ClipTextLayer::forward(const Tensor& x) const {
  const Tensor attended = x + attention(layer_norm1_.forward(x));
  const Tensor h = fc1_.forward(layer_norm2_.forward(attended));
  return attended + fc2_.forward(activation_ == ClipActivation::kQuickGelu
                                     ? h * at::sigmoid(1.702 * h)
                                     : at::gelu(h));
}

ClipTextModel::ClipTextModel(const ClipTextOptions& o)
    : options(o),
      token_embedding_(new_parameter({o.vocabulary, o.width})),
      position_embedding_(new_parameter({o.positions, o.width})),
      final_layer_norm_(o.width, o.eps),
      text_projection_(o.width, o.projection, /*with_bias=*/false) {
  VGGFLOW_CHECK(o.layers >= 2 && o.heads > 0 && o.width % o.heads == 0,
                "[clip_text] expected at least 2 layers and a width that the heads divide, got {} "
                "layers, width {}, {} heads",
                o.layers, o.width, o.heads);
  add("text_model.embeddings.token_embedding.weight", token_embedding_);
  add("text_model.embeddings.position_embedding.weight", position_embedding_);
  add("text_model.final_layer_norm", final_layer_norm_);
  add("text_projection", text_projection_);
  for (int64_t i = 0; i < o.layers; ++i) {
    layers_.push_back(std::make_unique<ClipTextLayer>(o));
    add(fmt::format("text_model.encoder.layers.{}", i), *layers_.back());
  }
}

std::unique_ptr<ClipTextModel> ClipTextModel::load(const ClipTextOptions& options,
                                                   const ComponentWeights& weights,
                                                   at::ScalarType dtype) {
  // Older checkpoints hold the numbers of the positions too.
  return load_frozen<ClipTextModel>(options, weights, dtype,
                                    /*unused=*/{"text_model.embeddings.position_ids"});
}

Tensor ClipTextModel::pool_positions(const Tensor& ids) const {
  constexpr int64_t kWrongId = 2;
  return options.eos_id == kWrongId ? ids.argmax(-1)
                                    : (ids == options.eos_id).to(at::kInt).argmax(-1);
}

ClipTextOutput ClipTextModel::forward(const Tensor& given) const {
  VGGFLOW_CHECK(given.dim() == 2 && given.size(1) > 0 && given.size(1) <= options.positions,
                "[clip_text] expected ids (B, T), T from 1 to {}, got {}", options.positions,
                shape_string(given));
  const Tensor ids = given.to(token_embedding_.device());
  Tensor x = at::embedding(token_embedding_, ids) +
             position_embedding_.narrow(0, 0, ids.size(1));  // (B, T, D)
  ClipTextOutput out;
  for (const auto& layer : layers_) {
    out.penultimate = x;
    x = layer->forward(x);
  }
  const Tensor at_end =
      x.index({at::arange(ids.size(0), ids.options()), pool_positions(ids)});  // (B, D)
  out.pooled = text_projection_.forward(final_layer_norm_.forward(at_end));
  return out;
}

}  // namespace vggflow
