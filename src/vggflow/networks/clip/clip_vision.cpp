#include "vggflow/networks/clip/clip_vision.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "vggflow/core/error.h"
#include "vggflow/nn/checkpoint.h"

namespace vggflow {
namespace {

// fp32 and fp64 arithmetic follows the input, bf16 the weights.
at::ScalarType product_type(const Tensor& weight, const Tensor& x) {
  return weight.scalar_type() == at::kBFloat16 ? at::kBFloat16 : x.scalar_type();
}

int64_t token_count(const ClipVisionOptions& o) {
  return 1 + (o.image / o.patch) * (o.image / o.patch);
}

void check(const ClipVisionOptions& o) {
  VGGFLOW_CHECK(o.layers > 0 && o.heads > 0 && o.width % o.heads == 0,
                "[clip_vision] expected layers and a width that the heads divide, got {} layers, "
                "width {}, {} heads",
                o.layers, o.width, o.heads);
  VGGFLOW_CHECK(o.patch > 0 && o.image >= o.patch,
                "[clip_vision] expected images of at least one patch, got {} and {}", o.image,
                o.patch);
}

}  // namespace

const std::vector<std::pair<std::string, ClipVisionOptions>>& clip_vision_presets() {
  static const std::vector<std::pair<std::string, ClipVisionOptions>> list{
      {"clip-vit-b32", {}},
      {"clip-vit-b16", {.patch = 16}},
      {"clip-vit-l14",
       {.patch = 14,
        .width = 1024,
        .mlp_width = 4096,
        .layers = 24,
        .heads = 16,
        .projection = 768}},
      {"clip-vit-l14-336",
       {.image = 336,
        .patch = 14,
        .width = 1024,
        .mlp_width = 4096,
        .layers = 24,
        .heads = 16,
        .projection = 768}},
      {"clip-vit-h14",
       {.patch = 14,
        .width = 1280,
        .mlp_width = 5120,
        .layers = 32,
        .heads = 16,
        .projection = 1024,
        .activation = ClipActivation::kGelu}},
      {"clip-vit-g14",
       {.patch = 14,
        .width = 1408,
        .mlp_width = 6144,
        .layers = 40,
        .heads = 16,
        .projection = 1024,
        .activation = ClipActivation::kGelu}},
      {"clip-vit-bigg14",
       {.patch = 14,
        .width = 1664,
        .mlp_width = 8192,
        .layers = 48,
        .heads = 16,
        .projection = 1280,
        .activation = ClipActivation::kGelu}},
  };
  return list;
}

const ClipVisionOptions& clip_vision_preset(const std::string& name) {
  for (const auto& [known, options] : clip_vision_presets()) {
    if (known == name) return options;
  }
  fail("[clip_vision] unknown tower '{}'", name);
}

template <TensorLike T>
T ClipVisionLayer::forward(const T& x) const {
  const auto stream = primal(x).scalar_type(), product = product_type(q_proj_.weight, primal(x));
  const T h = ops::to_dtype(layer_norm1_.forward(x), product);
  const T qkv = ops::cat(std::vector<T>{q_proj_.forward(h), k_proj_.forward(h), v_proj_.forward(h)},
                         -1);  // (B, N, 3D)
  const T attended = x + ops::to_dtype(out_proj_.forward(ops::attention(qkv, heads_)), stream);
  const T wide = fc1_.forward(ops::to_dtype(layer_norm2_.forward(attended), product));
  return attended + ops::to_dtype(fc2_.forward(activation_ == ClipActivation::kQuickGelu
                                                   ? ops::quick_gelu(wide)
                                                   : ops::gelu(wide)),
                                  stream);
}
template Tensor ClipVisionLayer::forward(const Tensor&) const;
template Dual ClipVisionLayer::forward(const Dual&) const;

ClipVisionModel::ClipVisionModel(const ClipVisionOptions& o)
    : options((check(o), o)),
      class_embedding_(new_parameter({o.width})),
      position_embedding_(new_parameter({token_count(o), o.width})),
      patch_embedding_(3, o.width, o.patch, o.patch, /*padding=*/0, /*groups=*/1,
                       /*with_bias=*/false),
      pre_layernorm_(o.width, o.eps),
      post_layernorm_(o.width, o.eps),
      visual_projection_(o.width, o.projection, /*with_bias=*/false) {
  add("vision_model.embeddings.class_embedding", class_embedding_);
  add("vision_model.embeddings.patch_embedding", patch_embedding_);
  add("vision_model.embeddings.position_embedding.weight", position_embedding_);
  add("vision_model.pre_layrnorm", pre_layernorm_);  // the released name
  add("vision_model.post_layernorm", post_layernorm_);
  add("visual_projection", visual_projection_);
  for (int64_t i = 0; i < o.layers; ++i) {
    layers_.push_back(std::make_unique<ClipVisionLayer>(o));
    add(fmt::format("vision_model.encoder.layers.{}", i), *layers_.back());
  }
}

template <TensorLike T>
T ClipVisionModel::embed_patches(const T& pixels) const {
  const Tensor& x = primal(pixels);
  VGGFLOW_CHECK(
      x.dim() == 4 && x.size(1) == 3 && x.size(2) == options.image && x.size(3) == options.image,
      "[clip_vision] expected pixels (B, 3, {0}, {0}), got {1}", options.image, shape_string(x));
  const T grid = ops::to_dtype(
      patch_embedding_.forward(ops::to_dtype(pixels, product_type(patch_embedding_.weight, x))),
      x.scalar_type());
  const T patches =
      ops::permute(ops::reshape(grid, {x.size(0), options.width, -1}), {0, 2, 1});  // (B, N, D)
  const T first =
      lift<T>(class_embedding_.to(x.scalar_type()).expand({x.size(0), 1, options.width}));
  return ops::cat(std::vector<T>{first, patches}, 1) + position_embedding_.to(x.scalar_type());
}

template <TensorLike T>
T ClipVisionModel::tokens(const T& pixels) const {
  T x = pre_layernorm_.forward(embed_patches(pixels));
  for (const auto& layer : layers_) x = recompute ? checkpoint(*layer, x) : layer->forward(x);
  return x;
}
template Tensor ClipVisionModel::tokens(const Tensor&) const;
template Dual ClipVisionModel::tokens(const Dual&) const;

template <TensorLike T>
T ClipVisionModel::embed(const T& pixels) const {
  const T x = tokens(pixels);
  const T first = ops::reshape(ops::narrow(x, 1, 0, 1), {primal(x).size(0), options.width});
  const auto product = product_type(visual_projection_.weight, primal(x));
  return ops::to_dtype(
      visual_projection_.forward(ops::to_dtype(post_layernorm_.forward(first), product)),
      primal(x).scalar_type());
}
template Tensor ClipVisionModel::embed(const Tensor&) const;
template Dual ClipVisionModel::embed(const Dual&) const;

}  // namespace vggflow
